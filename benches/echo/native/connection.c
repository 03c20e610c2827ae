#define _GNU_SOURCE
#include "connection.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clocks.h"
#include "secure.h"

enum { CONNECT_ATTEMPTS = 2000, CONNECT_PAUSE_US = 1000 };

void fail(const char *what) {
    fprintf(stderr, "echoload: %s%s%s\n", what, errno ? ": " : "", errno ? strerror(errno) : "");
    exit(2);
}

static void set_interest(struct connection *c, struct load *load, int operation) {
    struct epoll_event event = {
        .events = EPOLLIN | (c->waits_for_writable ? EPOLLOUT : 0u),
        .data.ptr = c,
    };
    if (epoll_ctl(load->epoll, operation, c->fd, &event)) fail("epoll_ctl");
}

static void start_message(struct connection *c, struct load *load, uint64_t now) {
    c->started_ns[c->next++ % MAX_DEPTH] = now;
    c->unsent_len += load->message_bytes;
}

void connection_open(struct connection *c, struct load *load) {
    memset(c, 0, sizeof *c);
    c->fd = socket(load->server.any.sa_family, (load->datagrams ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);
    if (c->fd < 0) fail("socket");
    int on = 1;
    if (!load->datagrams && load->server.any.sa_family == AF_INET) setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (load->churn) {
        /* Closing resets: thousands of connections a second would fill the port range with TIME_WAIT. */
        struct linger reset = { .l_onoff = 1, .l_linger = 0 };
        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    }
    for (int i = 0; connect(c->fd, &load->server.any, load->server_len); i++) {
        if (errno != EAGAIN && errno != ECONNREFUSED) fail("connect");
        if (i == CONNECT_ATTEMPTS) fail("connect, tried for two seconds");
        usleep(CONNECT_PAUSE_US);
    }
    if (load->secure) c->tls = secure_open(c->fd);
    fcntl(c->fd, F_SETFL, fcntl(c->fd, F_GETFL) | O_NONBLOCK);
    set_interest(c, load, EPOLL_CTL_ADD);
    for (int i = 0; i < load->depth; i++) start_message(c, load, now_ns());
    connection_writable(c, load);
}

void connection_writable(struct connection *c, struct load *load) {
    bool full = false;
    while (c->unsent_len && !full) {
        size_t offset = c->sent_len % load->message_bytes;
        size_t len = load->message_bytes - offset;
        if (len > c->unsent_len) len = c->unsent_len;
        const char *from = load->message + offset;
        ssize_t n = c->tls ? secure_send(c->tls, from, len) : send(c->fd, from, len, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN) fail("send");
        full = n < 0;
        if (n > 0) {
            c->sent_len += (size_t)n;
            c->unsent_len -= (size_t)n;
        }
    }
    if (full != c->waits_for_writable) {
        c->waits_for_writable = full;
        set_interest(c, load, EPOLL_CTL_MOD);
    }
}

/* A server that is fast and wrong must not win: what comes back is compared with what was sent. */
static void check_echo(const struct connection *c, const struct load *load, size_t len) {
    size_t offset = c->received_len % load->message_bytes;
    for (size_t done = 0; done < len;) {
        size_t part = load->message_bytes - offset;
        if (part > len - done) part = len - done;
        if (memcmp(load->received + done, load->message + offset, part)) {
            errno = 0;
            fail("the echo differs from what was sent");
        }
        done += part;
        offset = 0;
    }
}

static void finish_message(struct connection *c, struct load *load, uint64_t now) {
    load->messages++;
    uint64_t started = c->started_ns[c->oldest++ % MAX_DEPTH];
    if (load->measuring) histogram_record(&load->latencies, now - started);
    if (!load->churn) start_message(c, load, now);
}

void connection_readable(struct connection *c, struct load *load) {
    ssize_t n;
    do {
        n = c->tls ? secure_recv(c->tls, load->received, RECEIVE_BYTES) : recv(c->fd, load->received, RECEIVE_BYTES, 0);
        if (n < 0 && errno == EAGAIN) break;
        if (n < 0) fail("recv");
        if (n == 0) {
            errno = 0;
            fail("the server closed the connection");
        }
        check_echo(c, load, (size_t)n);
        size_t before = c->received_len / load->message_bytes;
        c->received_len += (size_t)n;
        size_t finished = c->received_len / load->message_bytes - before;
        for (uint64_t now = now_ns(); finished; finished--) finish_message(c, load, now);
        if (load->churn && c->received_len >= load->message_bytes) {
            if (c->tls) secure_close(c->tls);
            close(c->fd);
            connection_open(c, load);
            return;
        }
        /* OpenSSL gives a record at a time. */
    } while (n == RECEIVE_BYTES || c->tls);
    if (c->unsent_len) connection_writable(c, load);
}
