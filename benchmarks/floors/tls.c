/* The floor for TLS: an echo on epoll, OpenSSL over memory BIOs, 128 KiB
 * chunks, one writev per wake-up; no Python, no libuv.
 * tls CERT KEY: prints the port. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define CHUNK (128 * 1024)
#define RECORD 16384

struct peer {
    int fd;
    SSL *ssl;
    BIO *in, *out;      /* owned by ssl */
    char *queue;        /* ciphertext that the socket did not take */
    size_t begin, end, room;
};

static int epfd;
static char cipher_in[CHUNK], clear[CHUNK];

static void
peer_close(struct peer *p)
{
    close(p->fd);
    SSL_free(p->ssl);
    free(p->queue);
    free(p);
}

static void
peer_watch(struct peer *p, int op, unsigned events)
{
    struct epoll_event ev = { .events = events, .data.ptr = p };
    epoll_ctl(epfd, op, p->fd, &ev);
}

static void
peer_keep(struct peer *p, const char *data, size_t n)
{
    if (p->begin == p->end) {
        p->begin = p->end = 0;
    }
    if (p->end + n > p->room) {
        p->room = (p->end + n) * 2;
        p->queue = realloc(p->queue, p->room);
    }
    memcpy(p->queue + p->end, data, n);
    p->end += n;
}

/* The kept bytes and the BIO's in one writev; the BIO is emptied. */
static int
peer_flush(struct peer *p)
{
    char *fresh = NULL;
    size_t kept = p->end - p->begin;
    size_t n = (size_t)BIO_get_mem_data(p->out, &fresh);
    if (kept + n == 0) {
        return 0;
    }
    struct iovec iov[2] = { { p->queue ? p->queue + p->begin : NULL, kept },
                            { fresh, n } };
    ssize_t sent = writev(p->fd, iov, 2);
    if (sent < 0) {
        if (errno != EAGAIN) {
            return -1;
        }
        sent = 0;
    }
    size_t from_kept = (size_t)sent < kept ? (size_t)sent : kept;
    size_t from_fresh = (size_t)sent - from_kept;
    p->begin += from_kept;
    if (from_fresh < n) {
        peer_keep(p, fresh + from_fresh, n - from_fresh);
    }
    (void)BIO_reset(p->out);
    int waits = p->begin < p->end;
    if (waits || kept) {
        peer_watch(p, EPOLL_CTL_MOD, waits ? EPOLLIN | EPOLLOUT : EPOLLIN);
    }
    return 0;
}

static int
peer_read(struct peer *p)
{
    ssize_t n = recv(p->fd, cipher_in, CHUNK, 0);
    if (n <= 0) {
        return n < 0 && errno == EAGAIN ? 0 : -1;
    }
    BIO_write(p->in, cipher_in, (int)n);
    if (!SSL_is_init_finished(p->ssl)) {
        SSL_do_handshake(p->ssl);
    }
    for (;;) {
        size_t got = 0, one, put;
        while (got + RECORD <= CHUNK
               && SSL_read_ex(p->ssl, clear + got, CHUNK - got, &one)) {
            got += one;
        }
        if (!got) {
            break;
        }
        SSL_write_ex(p->ssl, clear, got, &put);
    }
    return peer_flush(p);
}

static void
server_accept(int server, SSL_CTX *ctx)
{
    int on = 1;
    int fd = accept4(server, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    struct peer *p = calloc(1, sizeof(*p));
    p->fd = fd;
    p->ssl = SSL_new(ctx);
    p->in = BIO_new(BIO_s_mem());
    p->out = BIO_new(BIO_s_mem());
    SSL_set_bio(p->ssl, p->in, p->out);
    SSL_set_accept_state(p->ssl);
    peer_watch(p, EPOLL_CTL_ADD, EPOLLIN);
}

static int
server_listen(void)
{
    struct sockaddr_in name = { .sin_family = AF_INET };
    socklen_t len = sizeof(name);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(fd, (struct sockaddr *)&name, sizeof(name))
        || listen(fd, 1024)) {
        perror("listen");
        exit(1);
    }
    getsockname(fd, (struct sockaddr *)&name, &len);
    printf("{\"port\": %d}\n", ntohs(name.sin_port));
    fflush(stdout);
    return fd;
}

static void
serve(int server, SSL_CTX *ctx)
{
    struct epoll_event ev[64];
    struct epoll_event first = { .events = EPOLLIN, .data.ptr = NULL };
    epfd = epoll_create1(0);
    epoll_ctl(epfd, EPOLL_CTL_ADD, server, &first);
    for (;;) {
        int n = epoll_wait(epfd, ev, 64, -1);
        for (int i = 0; i < n; i++) {
            struct peer *p = ev[i].data.ptr;
            if (!p) {
                server_accept(server, ctx);
            }
            else if (((ev[i].events & EPOLLOUT) && peer_flush(p))
                     || ((ev[i].events & ~EPOLLOUT) && peer_read(p))) {
                peer_close(p);
            }
        }
    }
}

int
main(int argc, char **argv)
{
    if (argc < 3) {
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    if (!SSL_CTX_use_certificate_chain_file(ctx, argv[1])
        || !SSL_CTX_use_PrivateKey_file(ctx, argv[2], SSL_FILETYPE_PEM)) {
        fprintf(stderr, "no certificate\n");
        return 1;
    }
    serve(server_listen(), ctx);
    return 0;
}
