#define _GNU_SOURCE
#include "load.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

static SSL_CTX *ctx;

void
link_setup(void)
{
    if (!opt.tls) {
        return;
    }
    ctx = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_verify(ctx, SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE
                              | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(ctx, 1);
}

/* Churn leaves each port in TIME_WAIT for a minute: take turns between
 * 127.0.0.2 and 127.0.0.250 as the source. */
static void
link_bind(int fd)
{
    static unsigned turn;
    int on = 1;
    struct sockaddr_in from = { .sin_family = AF_INET };
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
    from.sin_addr.s_addr = htonl(0x7f000002u + turn++ % 249);
    if (bind(fd, (struct sockaddr *)&from, sizeof(from))) {
        die("bind");
    }
}

void
link_connect(struct link *ln)
{
    int on = 1;
    int fd = socket(opt.addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        die("socket");
    }
    if (opt.addr.ss_family == AF_INET) {
        if (opt.mode == LOAD_CHURN) {
            link_bind(fd);
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    }
    if (connect(fd, (struct sockaddr *)&opt.addr, opt.addr_len)) {
        die("connect");
    }
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    ln->fd = fd;
    ln->ssl = NULL;
    if (opt.tls) {
        ln->ssl = SSL_new(ctx);
        SSL_set_fd(ln->ssl, fd);
        SSL_set_connect_state(ln->ssl);
    }
}

void
link_close(struct link *ln)
{
    if (ln->ssl) {
        SSL_shutdown(ln->ssl);
        SSL_free(ln->ssl);
    }
    close(ln->fd);
    ln->fd = -1;
    ln->ssl = NULL;
}

static ssize_t
link_ssl_result(struct link *ln, int ok, size_t n)
{
    if (ok > 0) {
        return (ssize_t)n;
    }
    switch (SSL_get_error(ln->ssl, ok)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        return -1;
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    default:
        ERR_print_errors_fp(stderr);
        die("TLS");
        return 0;
    }
}

static ssize_t
link_result(ssize_t n, const char *what)
{
    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        die(what);
    }
    return n;
}

ssize_t
link_read(struct link *ln, char *buf, size_t n)
{
    if (ln->ssl) {
        size_t got = 0;
        ERR_clear_error();
        int ok = SSL_read_ex(ln->ssl, buf, n, &got);
        return link_ssl_result(ln, ok, got);
    }
    return link_result(recv(ln->fd, buf, n, 0), "recv");
}

ssize_t
link_write(struct link *ln, const char *buf, size_t n)
{
    if (ln->ssl) {
        size_t sent = 0;
        ERR_clear_error();
        int ok = SSL_write_ex(ln->ssl, buf, n, &sent);
        return link_ssl_result(ln, ok, sent);
    }
    return link_result(send(ln->fd, buf, n, MSG_NOSIGNAL), "send");
}
