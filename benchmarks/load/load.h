/* The load generator: one thread, epoll, many connections.
 *
 * main.c reads the options and prints one JSON object; stats.c knows the
 * measured window, the latencies and the server's CPU clock; link.c is one
 * connection's bytes (plain or TLS); stream.c and udp.c are the loads.
 */
#pragma once

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#include <openssl/ssl.h>

enum load_mode { LOAD_ECHO, LOAD_CHURN, LOAD_SEND, LOAD_RECV, LOAD_UPLOAD };

struct options {
    enum load_mode mode;
    struct sockaddr_storage addr;
    socklen_t addr_len;
    int udp;
    int tls;
    int conns;
    size_t size;        /* bytes per message */
    int depth;          /* messages in flight per connection */
    double rate;        /* echo: so many messages a second; 0: as many as it can */
    double warm;        /* seconds before the window opens */
    double seconds;     /* length of the window */
    uint64_t count;     /* or: close the window after so many messages */
    pid_t pid;          /* the server, for its CPU clock; 0: nobody's */
    int hold;           /* keep the connections until stdin ends */
};

extern struct options opt;

/* stats.c: the window is opened by the first tick after `warm`. */
void stats_init(void);
int stats_tick(void);                   /* 0 when the window has closed */
int stats_open(void);                   /* true inside of the window */
void stats_message(uint64_t began_ns);  /* one message is answered */
void stats_bytes(size_t n);             /* bulk: bytes that went through */
void stats_lost(int n);                 /* datagrams that nobody answered */
void stats_print(void);
uint64_t now_ns(void);
void die(const char *what);

/* link.c: a connected, nonblocking stream, plain or TLS. */
struct link {
    int fd;
    SSL *ssl;
};

void link_setup(void);                  /* once, before the first link */
void link_connect(struct link *ln);
void link_close(struct link *ln);
/* >0: bytes; 0: the peer has closed; -1: would block. Others end the run. */
ssize_t link_read(struct link *ln, char *buf, size_t n);
ssize_t link_write(struct link *ln, const char *buf, size_t n);

void stream_run(void);
void udp_run(void);
