/* One connection of the load: keeps `depth` messages in flight and checks every byte that comes back. */
#ifndef ECHOLOAD_CONNECTION_H
#define ECHOLOAD_CONNECTION_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "histogram.h"

enum { MAX_DEPTH = 64, RECEIVE_BYTES = 1 << 18 };

/* What all connections share. */
struct load {
    union {
        struct sockaddr any;
        struct sockaddr_in internet;
        struct sockaddr_un local;
    } server;
    socklen_t server_len;
    bool secure; /* TLS */
    size_t message_bytes;
    int depth;
    bool churn; /* a connection per message */
    bool datagrams; /* UDP: a message is a datagram, and comes back as one */
    int epoll;
    char *message;
    char *received; /* RECEIVE_BYTES */
    uint64_t messages;
    bool measuring; /* latencies are recorded */
    struct histogram latencies;
};

struct connection {
    int fd;
    void *tls; /* NULL: none */
    bool waits_for_writable;
    size_t sent_len;     /* bytes sent so far; modulo message_bytes the place in the message */
    size_t unsent_len;   /* bytes of started messages that are still to be sent */
    size_t received_len; /* bytes received so far */
    uint64_t started_ns[MAX_DEPTH];
    unsigned oldest, next; /* ring indices into started_ns */
};

/* Connects (blocking), then starts the first messages. Exits the process where the server cannot be reached. */
void connection_open(struct connection *c, struct load *load);

/* Sends what is unsent until the socket is full. */
void connection_writable(struct connection *c, struct load *load);

/* Receives until the socket is empty; every whole message that came back starts the next. */
void connection_readable(struct connection *c, struct load *load);

/* Ends the process with a reason on standard error. */
_Noreturn void fail(const char *what);

#endif
