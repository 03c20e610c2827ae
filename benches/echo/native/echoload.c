/* echoload: a closed-loop echo client, one thread on epoll, that also reads the server's CPU clock.
 *
 *   echoload -a PORT_OR_PATH -P SERVER_PID -s BYTES -c CONNECTIONS -n DEPTH -w WARM_S -d MEASURED_S [-N MESSAGES] [-x | -u] [-t]
 *
 * Each connection keeps DEPTH messages in flight for WARM_S + MEASURED_S seconds, or, with -N, until MESSAGES came back.
 * -x opens a connection per message, -u sends datagrams (a lost one is not sent again), -t speaks TLS. Prints one JSON object: what the
 * server's CPU clock, the wall and the messages did between the end of the warm-up and the end. Exit status 2 and a reason
 * on standard error where anything went wrong. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include "clocks.h"
#include "connection.h"

enum { MAX_EVENTS = 256, WAIT_MS = 20, GRACE_S = 15 };

struct options {
    const char *address; /* a port of the loopback, or the path of a Unix socket */
    int connections;
    pid_t server;
    double warm_s, measured_s;
    uint64_t message_limit; /* 0: none */
};

struct mark {
    uint64_t wall_ns, server_cpu_ns, own_cpu_ns, messages;
};

static void parse(int argc, char **argv, struct options *options, struct load *load) {
    int option;
    while ((option = getopt(argc, argv, "a:P:s:c:n:w:d:N:xut")) != -1) switch (option) {
        case 'a': options->address = optarg; break;
        case 'P': options->server = atoi(optarg); break;
        case 's': load->message_bytes = strtoul(optarg, NULL, 10); break;
        case 'c': options->connections = atoi(optarg); break;
        case 'n': load->depth = atoi(optarg); break;
        case 'w': options->warm_s = atof(optarg); break;
        case 'd': options->measured_s = atof(optarg); break;
        case 'N': options->message_limit = strtoull(optarg, NULL, 10); break;
        case 'x': load->churn = true; break;
        case 'u': load->datagrams = true; break;
        case 't': load->secure = true; break;
        default: exit(1);
    }
    bool sound = options->address && options->server > 0 && options->connections > 0 && load->message_bytes > 0 &&
                 load->depth > 0 && load->depth <= MAX_DEPTH && (!load->churn || (load->depth == 1 && !load->datagrams));
    if (!sound) fail("options are missing or out of range (see the head of echoload.c)");
}

static struct mark take_mark(const struct options *options, const struct load *load) {
    struct mark mark = { now_ns(), process_cpu_ns(options->server), own_cpu_ns(), load->messages };
    if (!mark.server_cpu_ns) fail("the server's CPU clock");
    return mark;
}

static void set_server(struct load *load, const char *address) {
    if (*address == '/') {
        load->server.local.sun_family = AF_UNIX;
        load->server_len = sizeof load->server.local;
        if (strlen(address) >= sizeof load->server.local.sun_path) fail("the path is too long");
        strcpy(load->server.local.sun_path, address);
        return;
    }
    load->server.internet.sin_family = AF_INET;
    load->server.internet.sin_port = htons((uint16_t)atoi(address));
    load->server.internet.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    load->server_len = sizeof load->server.internet;
}

static void prepare(struct load *load, const struct options *options) {
    signal(SIGPIPE, SIG_IGN);
    /* A stalled server must not hold the bench: SIGALRM ends this process. */
    alarm((unsigned)(options->warm_s + options->measured_s) + GRACE_S);
    struct rlimit descriptors;
    getrlimit(RLIMIT_NOFILE, &descriptors);
    descriptors.rlim_cur = descriptors.rlim_max;
    setrlimit(RLIMIT_NOFILE, &descriptors);
    set_server(load, options->address);
    load->message = malloc(load->message_bytes);
    load->received = malloc(RECEIVE_BYTES);
    load->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (!load->message || !load->received || load->epoll < 0) fail("set-up");
    for (size_t i = 0; i < load->message_bytes; i++) load->message[i] = (char)('!' + i % 89);
    load->message[load->message_bytes - 1] = '\n';
}

static void serve_events(struct load *load) {
    struct epoll_event events[MAX_EVENTS];
    int n = epoll_wait(load->epoll, events, MAX_EVENTS, WAIT_MS);
    if (n < 0 && errno != EINTR) fail("epoll_wait");
    for (int i = 0; i < n; i++) {
        struct connection *c = events[i].data.ptr;
        if (events[i].events & EPOLLOUT) connection_writable(c, load);
        if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) connection_readable(c, load);
    }
}

static void print(const struct load *load, struct mark from, struct mark to) {
    double messages = (double)(to.messages - from.messages);
    if (messages < 1) {
        errno = 0;
        fail("no message came back in the measured time");
    }
    double wall_ns = (double)(to.wall_ns - from.wall_ns);
    printf("{\"messages\": %.0f, \"rate_per_s\": %.1f, \"cpu_ns\": %.2f, \"wall_ns\": %.2f, \"client_cpu_ns\": %.2f, "
           "\"p50_us\": %.3f, \"p99_us\": %.3f}\n",
        messages, messages / wall_ns * 1e9, (double)(to.server_cpu_ns - from.server_cpu_ns) / messages,
        wall_ns / messages, (double)(to.own_cpu_ns - from.own_cpu_ns) / messages,
        histogram_quantile_ns(&load->latencies, 0.50) / 1e3, histogram_quantile_ns(&load->latencies, 0.99) / 1e3);
}

int main(int argc, char **argv) {
    static struct load load = { .depth = 1 };
    struct options options = { .connections = 1, .measured_s = 1.0 };
    parse(argc, argv, &options, &load);
    prepare(&load, &options);
    struct connection *connections = calloc((size_t)options.connections, sizeof *connections);
    if (!connections) fail("set-up");
    for (int i = 0; i < options.connections; i++) connection_open(&connections[i], &load);

    uint64_t begin = now_ns();
    uint64_t warm_until = begin + (uint64_t)(options.warm_s * 1e9);
    uint64_t end = warm_until + (uint64_t)(options.measured_s * 1e9);
    while (now_ns() < warm_until) serve_events(&load);
    struct mark from = take_mark(&options, &load);
    load.measuring = true;
    while (options.message_limit ? load.messages < options.message_limit : now_ns() < end) serve_events(&load);
    print(&load, from, take_mark(&options, &load));
    return 0;
}
