/* TLS of a connection of the load; secure_none.c stands in where a program is built without OpenSSL. */
#ifndef ECHOLOAD_SECURE_H
#define ECHOLOAD_SECURE_H

#include <stddef.h>
#include <sys/types.h>

/* Shakes hands over a connected, blocking socket. Exits the process where that fails. */
void *secure_open(int fd);

/* As send(2) and recv(2) on a non-blocking socket: -1 and EAGAIN where they would wait. */
ssize_t secure_send(void *tls, const char *data, size_t len);
ssize_t secure_recv(void *tls, char *data, size_t len);

void secure_close(void *tls);

#endif
