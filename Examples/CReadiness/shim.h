// What of epoll dtls-tunnel needs, as Swift cannot import it. Empty elsewhere than on Linux.
#ifndef CREADINESS_SHIM_H
#define CREADINESS_SHIM_H

#ifdef __linux__
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

/// A descriptor that is readable while the socket has a datagram *or an error*: Dispatch does not tell of a socket
/// that has nothing but an error, and spins over it.
static inline int CReadiness_make(int descriptor) {
    int readiness = epoll_create1(EPOLL_CLOEXEC);
    if (readiness < 0) return -1;
    // EPOLLERR is always reported.
    struct epoll_event event;
    memset(&event, 0, sizeof(event));
    event.events = EPOLLIN;
    if (epoll_ctl(readiness, EPOLL_CTL_ADD, descriptor, &event) == 0) return readiness;
    int error = errno;
    close(readiness);
    errno = error;
    return -1;
}
#endif

#endif
