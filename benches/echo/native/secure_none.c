#include "secure.h"

#include <errno.h>

#include "connection.h"

void *secure_open(int fd) {
    (void)fd;
    errno = 0;
    fail("this program was built without TLS");
}

ssize_t secure_send(void *tls, const char *data, size_t len) {
    (void)tls, (void)data, (void)len;
    return 0;
}

ssize_t secure_recv(void *tls, char *data, size_t len) {
    (void)tls, (void)data, (void)len;
    return 0;
}

void secure_close(void *tls) {
    (void)tls;
}
