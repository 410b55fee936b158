#define _GNU_SOURCE
#include "load.h"

#include <arpa/inet.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/un.h>

struct options opt = {
    .conns = 10, .size = 1024, .depth = 1, .warm = 0.1, .seconds = 1,
};

static const char *const modes[] = {
    "echo", "churn", "send", "recv", "upload", NULL,
};

static const struct option longs[] = {
    { "port", required_argument, NULL, 'p' },
    { "unix", required_argument, NULL, 'x' },
    { "udp", no_argument, NULL, 'u' },
    { "tls", no_argument, NULL, 't' },
    { "conns", required_argument, NULL, 'c' },
    { "size", required_argument, NULL, 's' },
    { "depth", required_argument, NULL, 'd' },
    { "rate", required_argument, NULL, 'r' },
    { "warm", required_argument, NULL, 'w' },
    { "seconds", required_argument, NULL, 'T' },
    { "count", required_argument, NULL, 'n' },
    { "pid", required_argument, NULL, 'P' },
    { "hold", no_argument, NULL, 'H' },
    { 0 },
};

static void
usage(const char *name)
{
    fprintf(stderr, "use: %s echo|churn|send|recv|upload"
            " --port N | --unix PATH [--udp] [--tls] [--conns N] [--size N]"
            " [--depth N] [--rate N] [--warm S] [--seconds S | --count N] [--pid N]"
            " [--hold]\n", name);
    exit(2);
}

static void
address_inet(const char *port)
{
    struct sockaddr_in *in = (struct sockaddr_in *)&opt.addr;
    in->sin_family = AF_INET;
    in->sin_port = htons((uint16_t)atoi(port));
    in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    opt.addr_len = sizeof(*in);
}

static void
address_unix(const char *path)
{
    struct sockaddr_un *un = (struct sockaddr_un *)&opt.addr;
    un->sun_family = AF_UNIX;
    strncpy(un->sun_path, path, sizeof(un->sun_path) - 1);
    opt.addr_len = sizeof(*un);
}

static void
option_set(int c)
{
    switch (c) {
    case 'p': address_inet(optarg); break;
    case 'x': address_unix(optarg); break;
    case 'u': opt.udp = 1; break;
    case 't': opt.tls = 1; break;
    case 'c': opt.conns = atoi(optarg); break;
    case 's': opt.size = (size_t)atoll(optarg); break;
    case 'd': opt.depth = atoi(optarg); break;
    case 'r': opt.rate = atof(optarg); break;
    case 'w': opt.warm = atof(optarg); break;
    case 'T': opt.seconds = atof(optarg); break;
    case 'n': opt.count = (uint64_t)atoll(optarg); break;
    case 'P': opt.pid = (pid_t)atoi(optarg); break;
    case 'H': opt.hold = 1; break;
    default: exit(2);
    }
}

static void
options_read(int argc, char **argv)
{
    int c, mode = 0;
    while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        option_set(c);
    }
    if (optind + 1 != argc) {
        usage(argv[0]);
    }
    while (modes[mode] && strcmp(modes[mode], argv[optind])) {
        mode++;
    }
    opt.mode = (enum load_mode)mode;
    if (!modes[mode] || !opt.addr_len || opt.conns < 1 || opt.size < 1
        || opt.depth < 1 || opt.depth > 64) {
        usage(argv[0]);
    }
}

int
main(int argc, char **argv)
{
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    signal(SIGPIPE, SIG_IGN);
    options_read(argc, argv);
    if (opt.udp) {
        udp_run();
    }
    else {
        stream_run();
    }
    if (opt.mode != LOAD_UPLOAD) {
        stats_print();
    }
    return 0;
}
