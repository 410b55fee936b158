/* The floor: the same servers in C on libuv, without Python.
 * echo tcp|unix|sink|udp [PATH]: echoes (sink: only reads), and prints where
 * it listens as the servers in Python do. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <uv.h>

#define ROOM (256 * 1024)

struct request {
    uv_write_t write;
    uv_udp_send_t send;
    char data[];
};

static uv_loop_t *loop;
static char buffer[ROOM];
static int sink;

static void
on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    (void)handle, (void)suggested;
    *buf = uv_buf_init(buffer, ROOM);
}

static void
on_close(uv_handle_t *handle)
{
    free(handle);
}

static void
on_written(uv_write_t *write, int status)
{
    (void)status;
    free(write->data);
}

static void
stream_write_later(uv_stream_t *stream, const char *data, size_t n)
{
    struct request *req = malloc(sizeof(*req) + n);
    memcpy(req->data, data, n);
    req->write.data = req;
    uv_buf_t buf = uv_buf_init(req->data, (unsigned)n);
    uv_write(&req->write, stream, &buf, 1, on_written);
}

static void
on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    if (n < 0) {
        uv_close((uv_handle_t *)stream, on_close);
        return;
    }
    if (sink || n == 0) {
        return;
    }
    uv_buf_t out = uv_buf_init(buf->base, (unsigned)n);
    int sent = uv_try_write(stream, &out, 1);
    if (sent < 0) {
        sent = 0;
    }
    if (sent < n) {
        stream_write_later(stream, buf->base + sent, (size_t)(n - sent));
    }
}

static void
on_tcp(uv_stream_t *server, int status)
{
    uv_tcp_t *peer = malloc(sizeof(*peer));
    (void)status;
    uv_tcp_init(loop, peer);
    uv_accept(server, (uv_stream_t *)peer);
    uv_tcp_nodelay(peer, 1);
    uv_read_start((uv_stream_t *)peer, on_alloc, on_read);
}

static void
on_unix(uv_stream_t *server, int status)
{
    uv_pipe_t *peer = malloc(sizeof(*peer));
    (void)status;
    uv_pipe_init(loop, peer, 0);
    uv_accept(server, (uv_stream_t *)peer);
    uv_read_start((uv_stream_t *)peer, on_alloc, on_read);
}

static void
on_sent(uv_udp_send_t *send, int status)
{
    (void)status;
    free(send->data);
}

static void
on_datagram(uv_udp_t *udp, ssize_t n, const uv_buf_t *buf,
            const struct sockaddr *from, unsigned flags)
{
    (void)flags;
    if (n < 0 || !from) {
        return;
    }
    uv_buf_t out = uv_buf_init(buf->base, (unsigned)n);
    if (uv_udp_try_send(udp, &out, 1, from) >= 0) {
        return;
    }
    struct request *req = malloc(sizeof(*req) + (size_t)n);
    memcpy(req->data, buf->base, (size_t)n);
    req->send.data = req;
    out.base = req->data;
    uv_udp_send(&req->send, udp, &out, 1, from, on_sent);
}

static int
name_port(const struct sockaddr_storage *name)
{
    return ntohs(((const struct sockaddr_in *)name)->sin_port);
}

static void
serve_tcp(const struct sockaddr *any)
{
    static uv_tcp_t server;
    struct sockaddr_storage name;
    int len = sizeof(name);
    uv_tcp_init(loop, &server);
    uv_tcp_bind(&server, any, 0);
    uv_listen((uv_stream_t *)&server, 1024, on_tcp);
    uv_tcp_getsockname(&server, (struct sockaddr *)&name, &len);
    printf("{\"port\": %d}\n", name_port(&name));
}

static void
serve_unix(const char *path)
{
    static uv_pipe_t server;
    uv_pipe_init(loop, &server, 0);
    uv_pipe_bind(&server, path);
    uv_listen((uv_stream_t *)&server, 1024, on_unix);
    printf("{\"unix\": \"%s\"}\n", path);
}

static void
serve_udp(const struct sockaddr *any)
{
    static uv_udp_t server;
    struct sockaddr_storage name;
    int len = sizeof(name);
    uv_udp_init(loop, &server);
    uv_udp_bind(&server, any, 0);
    uv_udp_recv_start(&server, on_alloc, on_datagram);
    uv_udp_getsockname(&server, (struct sockaddr *)&name, &len);
    printf("{\"port\": %d}\n", name_port(&name));
}

int
main(int argc, char **argv)
{
    struct sockaddr_in any;
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    loop = uv_default_loop();
    uv_ip4_addr("127.0.0.1", 0, &any);
    const char *what = argc > 1 ? argv[1] : "tcp";
    sink = !strcmp(what, "sink");
    if (!strcmp(what, "udp")) {
        serve_udp((struct sockaddr *)&any);
    }
    else if (!strcmp(what, "unix") && argc > 2) {
        serve_unix(argv[2]);
    }
    else {
        serve_tcp((struct sockaddr *)&any);
    }
    fflush(stdout);
    return uv_run(loop, UV_RUN_DEFAULT);
}
