/* epollserver: the floor of an echo server, bare epoll and system calls, no event loop and no interpreter.
 *
 *   epollserver [-u | PATH]
 *
 * Prints "READY address pid" and serves a free loopback port, or a Unix socket at PATH, until killed (or LIFETIME_S are
 * over); -u echoes datagrams, many per call. What it costs per message is the kernel's share of every other server here. It has no flow control: a client
 * that does not read what it is sent stops it, which the load client never does. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { MAX_DATAGRAMS = 32, DATAGRAM_BYTES = 1 << 16, RECEIVE_ROOM_BYTES = 1 << 20 };
enum { MAX_EVENTS = 256, BACKLOG = 4096, RECEIVE_BYTES = 1 << 18, LIFETIME_S = 900 };

static char received[RECEIVE_BYTES];

static void require(int sound, const char *what) {
    if (sound) return;
    perror(what);
    exit(2);
}

static int listen_on_loopback(int kind) {
    int listener = socket(AF_INET, kind | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int room = RECEIVE_ROOM_BYTES;
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof address;
    require(listener >= 0, "socket");
    require(!bind(listener, (struct sockaddr *)&address, len), "bind");
    if (kind == SOCK_STREAM) require(!listen(listener, BACKLOG), "listen");
    else require(!setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &room, sizeof room), "SO_RCVBUF");
    require(!getsockname(listener, (struct sockaddr *)&address, &len), "getsockname");
    printf("READY %d %d\n", ntohs(address.sin_port), getpid());
    fflush(stdout);
    return listener;
}

static int listen_at(const char *path) {
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    require(strlen(path) < sizeof address.sun_path, "the path's length");
    strcpy(address.sun_path, path);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    require(listener >= 0, "socket");
    require(!bind(listener, (struct sockaddr *)&address, sizeof address), "bind");
    require(!listen(listener, BACKLOG), "listen");
    printf("READY %s %d\n", path, getpid());
    fflush(stdout);
    return listener;
}

static void watch(int epoll, int fd) {
    struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };
    require(!epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
}

static void accept_all(int epoll, int listener) {
    int fd, on = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        watch(epoll, fd);
    }
    require(errno == EAGAIN || errno == ECONNABORTED, "accept");
}

/* Returns whether the connection lives on. */
static int echo(int fd) {
    ssize_t n = recv(fd, received, sizeof received, 0);
    if (n < 0 && errno == EAGAIN) return 1;
    for (ssize_t sent = 0, r; sent < n; sent += r > 0 ? r : 0) {
        r = send(fd, received + sent, (size_t)(n - sent), MSG_NOSIGNAL);
        if (r < 0 && errno != EAGAIN) return 0;
        if (r < 0) poll(&(struct pollfd){ .fd = fd, .events = POLLOUT }, 1, -1);
    }
    return n > 0;
}

static void echo_datagrams(int fd) {
    static char slots[MAX_DATAGRAMS][DATAGRAM_BYTES];
    static struct sockaddr_in senders[MAX_DATAGRAMS];
    static struct iovec vectors[MAX_DATAGRAMS];
    static struct mmsghdr headers[MAX_DATAGRAMS];
    for (int i = 0; i < MAX_DATAGRAMS; i++) {
        vectors[i] = (struct iovec){ slots[i], DATAGRAM_BYTES };
        headers[i].msg_hdr = (struct msghdr){
            .msg_name = &senders[i], .msg_namelen = sizeof senders[i], .msg_iov = &vectors[i], .msg_iovlen = 1,
        };
    }
    int n = recvmmsg(fd, headers, MAX_DATAGRAMS, 0, NULL);
    require(n > 0 || errno == EAGAIN, "recvmmsg");
    for (int i = 0; i < n; i++) vectors[i].iov_len = headers[i].msg_len;
    for (int sent = 0, r; sent < n; sent += r) {
        r = sendmmsg(fd, headers + sent, (unsigned)(n - sent), 0);
        require(r > 0, "sendmmsg");
    }
}

int main(int argc, char **argv) {
    int kind = argc > 1 && !strcmp(argv[1], "-u") ? SOCK_DGRAM : SOCK_STREAM;
    alarm(LIFETIME_S);
    struct rlimit descriptors;
    getrlimit(RLIMIT_NOFILE, &descriptors);
    descriptors.rlim_cur = descriptors.rlim_max;
    setrlimit(RLIMIT_NOFILE, &descriptors);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    int listener = argc > 1 && *argv[1] == '/' ? listen_at(argv[1]) : listen_on_loopback(kind);
    require(epoll >= 0, "epoll_create1");
    watch(epoll, listener);
    for (;;) {
        struct epoll_event events[MAX_EVENTS];
        int n = epoll_wait(epoll, events, MAX_EVENTS, -1);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            if (kind == SOCK_DGRAM) echo_datagrams(fd);
            else if (fd == listener) accept_all(epoll, listener);
            else if (!echo(fd)) close(fd);
        }
    }
}
