#include "secure.h"

#include <errno.h>
#include <openssl/ssl.h>

#include "connection.h"

static SSL_CTX *context(void) {
    static SSL_CTX *made;
    if (made) return made;
    made = SSL_CTX_new(TLS_client_method());
    if (!made) fail("SSL_CTX_new");
    SSL_CTX_set_mode(made, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    return made;
}

void *secure_open(int fd) {
    SSL *tls = SSL_new(context());
    errno = 0;
    if (!tls || !SSL_set_fd(tls, fd) || SSL_connect(tls) != 1) fail("the TLS handshake");
    return tls;
}

static ssize_t outcome(SSL *tls, int result) {
    if (result > 0) return result;
    int reason = SSL_get_error(tls, result);
    if (reason == SSL_ERROR_ZERO_RETURN) return 0;
    if (reason == SSL_ERROR_WANT_READ || reason == SSL_ERROR_WANT_WRITE) errno = EAGAIN;
    return -1;
}

ssize_t secure_send(void *tls, const char *data, size_t len) {
    return outcome(tls, SSL_write(tls, data, (int)len));
}

ssize_t secure_recv(void *tls, char *data, size_t len) {
    return outcome(tls, SSL_read(tls, data, (int)len));
}

void secure_close(void *tls) {
    SSL_free(tls);
}
