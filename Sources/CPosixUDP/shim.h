// UDP for Swift: what needs the CMSG_* macros, which Swift cannot import, and constants that not every C library has.
// Only bytes and integers cross the border, so that no type of the C library seems to come from this module.
// Nothing here keeps state, allocates or waits. Every function answers -1 and sets errno when it fails.

#ifndef SWIFT_DTLS_CPOSIXUDP_SHIM_H
#define SWIFT_DTLS_CPOSIXUDP_SHIM_H

#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#ifdef __linux__
#include <linux/errqueue.h>
#include <linux/filter.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <unistd.h>
#endif

// MARK: Constants

#ifdef __linux__
static const int CPosixUDP_IP_RECVPKTINFO = 8;
static const int CPosixUDP_IPV6_RECVPKTINFO = 49;
static const int CPosixUDP_IPV6_PKTINFO = 50;
static const int CPosixUDP_IP_RECVERR = 11;
static const int CPosixUDP_IPV6_RECVERR = 25;
static const int CPosixUDP_IP_UNICAST_IF = 50;
static const int CPosixUDP_IPV6_UNICAST_IF = 76;
static const int CPosixUDP_SO_BINDTODEVICE = SO_BINDTODEVICE;
static const int CPosixUDP_UDP_SEGMENT = 103;
static const int CPosixUDP_UDP_GRO = 104;
#elif defined(__APPLE__)
static const int CPosixUDP_IP_RECVPKTINFO = IP_RECVPKTINFO;
// Darwin's headers show these with __APPLE_USE_RFC_3542 only, which a header cannot define for the module that they are
// a part of.
static const int CPosixUDP_IPV6_RECVPKTINFO = 61;
static const int CPosixUDP_IPV6_PKTINFO = 46;
static const int CPosixUDP_IP_BOUND_IF = 25;
static const int CPosixUDP_IPV6_BOUND_IF = 125;
#endif

// MARK: Datagrams with the local address that they were sent to, or leave from

/// An address of this machine, IPv4 in its mapped form (::ffff:192.0.2.1).
typedef struct {
    /// 0: not known, or left to the system.
    int isKnown;
    /// The interface; when sending, 0 leaves it to the system.
    uint32_t interface;
    /// In network order.
    uint64_t high;
    uint64_t low;
} CPosixUDP_Local;

/// struct in6_pktinfo (RFC 3542 section 6.1), which glibc hides from programs without _GNU_SOURCE.
struct CPosixUDP_in6_pktinfo {
    struct in6_addr ipi6_addr;
    unsigned int ipi6_ifindex;
};

/// Room for both forms at once: a dual-stack socket may report both.
typedef union {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(struct in_pktinfo)) + CMSG_SPACE(sizeof(struct CPosixUDP_in6_pktinfo)) + 64];
} CPosixUDP_Control;

static inline void CPosixUDP_setMapped(CPosixUDP_Local *local, struct in_addr address, uint32_t interface) {
    uint8_t bytes[8] = {0, 0, 0xff, 0xff, 0, 0, 0, 0};
    memcpy(&bytes[4], &address, 4);
    local->high = 0;
    memcpy(&local->low, bytes, 8);
    local->interface = interface;
    local->isKnown = 1;
}

/// Reads the local address, unless it is one that nothing can be sent from (a multicast group, the broadcast address).
static inline void CPosixUDP_readLocal(struct msghdr *message, CPosixUDP_Local *local) {
    local->isKnown = 0;
    local->high = local->low = 0;
    for (struct cmsghdr *item = CMSG_FIRSTHDR(message); item; item = CMSG_NXTHDR(message, item)) {
        if (item->cmsg_level == IPPROTO_IP && item->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo info;
            if (item->cmsg_len < CMSG_LEN(sizeof(info))) continue;
            memcpy(&info, CMSG_DATA(item), sizeof(info));
#ifdef __linux__
            // For a datagram that was broadcast, the address of the interface rather than the destination.
            CPosixUDP_setMapped(local, info.ipi_spec_dst, (uint32_t)info.ipi_ifindex);
#else
            CPosixUDP_setMapped(local, info.ipi_addr, (uint32_t)info.ipi_ifindex);
#endif
        } else if (item->cmsg_level == IPPROTO_IPV6 && item->cmsg_type == CPosixUDP_IPV6_PKTINFO) {
            struct CPosixUDP_in6_pktinfo info;
            if (item->cmsg_len < CMSG_LEN(sizeof(info))) continue;
            memcpy(&info, CMSG_DATA(item), sizeof(info));
            if (IN6_IS_ADDR_MULTICAST(&info.ipi6_addr)) continue;
            memcpy(&local->high, &info.ipi6_addr, 8);
            memcpy(&local->low, (const uint8_t *)&info.ipi6_addr + 8, 8);
            local->interface = (uint32_t)info.ipi6_ifindex;
            local->isKnown = 1;
        }
    }
    // 224.0.0.0 and above is no host, nor is 0.0.0.0.
    const uint8_t *bytes = (const uint8_t *)&local->low;
    int isMapped = local->high == 0 && bytes[0] == 0 && bytes[1] == 0 && bytes[2] == 0xff && bytes[3] == 0xff;
    if (local->isKnown && isMapped && (bytes[4] >= 224 || bytes[4] == 0)) local->isKnown = 0;
}

/// Appends the local address to a message's control data, of which `used` bytes are in use. Answers how many are then.
static inline size_t CPosixUDP_writeLocal(char *control, size_t used, int isIPv4, const CPosixUDP_Local *local) {
    struct cmsghdr *item = (struct cmsghdr *)(control + used);
    if (isIPv4) {
        struct in_pktinfo info;
        memset(&info, 0, sizeof(info));
        memcpy(&info.ipi_spec_dst, (const uint8_t *)&local->low + 4, 4);
        info.ipi_ifindex = local->interface;
        item->cmsg_level = IPPROTO_IP;
        item->cmsg_type = IP_PKTINFO;
        item->cmsg_len = CMSG_LEN(sizeof(info));
        memcpy(CMSG_DATA(item), &info, sizeof(info));
        return used + CMSG_SPACE(sizeof(info));
    }
    struct CPosixUDP_in6_pktinfo info;
    memset(&info, 0, sizeof(info));
    memcpy(&info.ipi6_addr, &local->high, 8);
    memcpy((uint8_t *)&info.ipi6_addr + 8, &local->low, 8);
    info.ipi6_ifindex = local->interface;
    item->cmsg_level = IPPROTO_IPV6;
    item->cmsg_type = CPosixUDP_IPV6_PKTINFO;
    item->cmsg_len = CMSG_LEN(sizeof(info));
    memcpy(CMSG_DATA(item), &info, sizeof(info));
    return used + CMSG_SPACE(sizeof(info));
}

/// Sends one datagram. A null `peer` is for connected sockets; `local` leaves the choice to the system when it is not
/// known.
static inline ssize_t CPosixUDP_send(
    int descriptor, const void *bytes, size_t count, int flags,
    const void *peer, uint32_t peerLength, const CPosixUDP_Local *local
) {
    // The kernel has less to copy for sendto(2).
    if (!peer || !local->isKnown) {
        return sendto(descriptor, bytes, count, flags, (const struct sockaddr *)peer, peerLength);
    }
    struct iovec vector = {.iov_base = (void *)bytes, .iov_len = count};
    CPosixUDP_Control control;
    memset(&control, 0, sizeof(control));
    struct msghdr message;
    memset(&message, 0, sizeof(message));
    message.msg_name = (void *)peer;
    message.msg_namelen = peerLength;
    message.msg_iov = &vector;
    message.msg_iovlen = 1;
    message.msg_control = &control;
    int isIPv4 = ((const struct sockaddr *)peer)->sa_family == AF_INET;
    message.msg_controllen = CPosixUDP_writeLocal(control.bytes, 0, isIPv4, local);
    return sendmsg(descriptor, &message, flags);
}

// MARK: The error queue (ip(7), IP_RECVERR)

/// What the network, or the system itself, reports of a datagram that was sent earlier.
typedef struct {
    /// The `errno`; 0 when there is nothing to report.
    int error;
    /// Whether the system itself refused the datagram. Otherwise an ICMP message said so, which anyone may have sent.
    int isLocal;
    /// The path MTU in bytes when `error` is EMSGSIZE.
    uint32_t pathMTU;
    /// Where the datagram was sent to. The port is 0 where the system does not tell.
    /// A sockaddr_in or sockaddr_in6.
    uint8_t peer[28];
    uint32_t peerLength;
} CPosixUDP_Error;

/// Takes the oldest report. 1: there was one; 0: there was none; -1: the socket cannot be read.
static inline int CPosixUDP_receiveError(int descriptor, CPosixUDP_Error *report) {
    memset(report, 0, sizeof(*report));
#ifdef __linux__
    // The datagram that was refused; its bytes are of no interest.
    char bytes[1];
    union {
        struct cmsghdr header;
        char bytes[512];
    } control;
    struct iovec vector = {.iov_base = bytes, .iov_len = sizeof(bytes)};
    struct msghdr message;
    memset(&message, 0, sizeof(message));
    message.msg_name = report->peer;
    message.msg_namelen = sizeof(report->peer);
    message.msg_iov = &vector;
    message.msg_iovlen = 1;
    message.msg_control = &control;
    message.msg_controllen = sizeof(control);
    if (recvmsg(descriptor, &message, MSG_ERRQUEUE | MSG_DONTWAIT) < 0) {
        return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -1;
    }
    report->peerLength = message.msg_namelen;
    for (struct cmsghdr *item = CMSG_FIRSTHDR(&message); item; item = CMSG_NXTHDR(&message, item)) {
        int isIPv4 = item->cmsg_level == IPPROTO_IP && item->cmsg_type == CPosixUDP_IP_RECVERR;
        int isIPv6 = item->cmsg_level == IPPROTO_IPV6 && item->cmsg_type == CPosixUDP_IPV6_RECVERR;
        struct sock_extended_err error;
        if ((!isIPv4 && !isIPv6) || item->cmsg_len < CMSG_LEN(sizeof(error))) continue;
        memcpy(&error, CMSG_DATA(item), sizeof(error));
        int isICMP = error.ee_origin == SO_EE_ORIGIN_ICMP || error.ee_origin == SO_EE_ORIGIN_ICMP6;
        if (!isICMP && error.ee_origin != SO_EE_ORIGIN_LOCAL) continue;
        report->error = (int)error.ee_errno;
        report->isLocal = !isICMP;
        if (report->error == EMSGSIZE) report->pathMTU = error.ee_info;
    }
    return 1;
#else
    (void)descriptor;
    return 0;
#endif
}

// MARK: Readiness

#ifdef __linux__
/// A descriptor that is readable while the socket has a datagram *or an error*.
static inline int CPosixUDP_makeReadiness(int descriptor) {
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

/// Names the calling thread, in 15 bytes at the most.
static inline void CPosixUDP_nameThread(const char *name) { prctl(PR_SET_NAME, name, 0, 0, 0); }

/// What a descriptor in an epoll is ready for. Errors count as readable.
typedef struct {
    int descriptor;
    int isReadable;
    int isWritable;
} CPosixUDP_Event;

static inline int CPosixUDP_makeEpoll(void) { return epoll_create1(EPOLL_CLOEXEC); }

/// A descriptor that is readable once it was rung.
static inline int CPosixUDP_makeBell(void) { return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); }

static inline void CPosixUDP_ring(int bell) {
    uint64_t one = 1;
    // It fails only when it was rung so often that it need not be any more.
    ssize_t written = write(bell, &one, sizeof(one));
    (void)written;
}

static inline void CPosixUDP_silence(int bell) {
    uint64_t count;
    ssize_t taken = read(bell, &count, sizeof(count));
    (void)taken;
}

/// Waits for what is asked; for errors in any case.
static inline int CPosixUDP_watch(int epoll, int descriptor, int reads, int writes, int isKnown) {
    struct epoll_event event;
    memset(&event, 0, sizeof(event));
    event.events = (reads ? EPOLLIN : 0) | (writes ? EPOLLOUT : 0);
    event.data.fd = descriptor;
    return epoll_ctl(epoll, isKnown ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, descriptor, &event);
}

static inline void CPosixUDP_forget(int epoll, int descriptor) {
    struct epoll_event event;
    memset(&event, 0, sizeof(event));
    epoll_ctl(epoll, EPOLL_CTL_DEL, descriptor, &event);
}

/// Waits up to `timeout` milliseconds, for ever if that is below 0. Returns how many events it has written, up to 64.
static inline int CPosixUDP_wait(int epoll, CPosixUDP_Event *events, int count, int timeout) {
    struct epoll_event ready[64];
    int found = epoll_wait(epoll, ready, count < 64 ? count : 64, timeout);
    for (int index = 0; index < found; index++) {
        events[index].descriptor = ready[index].data.fd;
        events[index].isReadable = (ready[index].events & ~(uint32_t)EPOLLOUT) != 0;
        events[index].isWritable = (ready[index].events & EPOLLOUT) != 0;
    }
    return found;
}
#endif

// MARK: Several sockets on one port

#ifdef __linux__
/// Has the kernel choose among the `count` sockets of a port, in the order in which they were bound, for a record with
/// a Connection ID (RFC 9146 §4) by the ID's first byte modulo `count`. All other datagrams go by the kernel's hash of
/// the addresses as before, which an answer beyond the sockets stands for.
static inline int CPosixUDP_steer(int descriptor, uint32_t count) {
    const uint32_t unknown = UINT32_MAX;
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0),
        // To load what is not there would be an answer: the first socket.
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 12, 0, 5),
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 25, 0, 3),
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 11),
        BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, count),
        BPF_STMT(BPF_RET | BPF_A, 0),
        BPF_STMT(BPF_RET | BPF_K, unknown),
    };
    struct sock_fprog program = {.len = sizeof(code) / sizeof(code[0]), .filter = code};
    const int attachProgram = 51;  // SO_ATTACH_REUSEPORT_CBPF
    return setsockopt(descriptor, SOL_SOCKET, attachProgram, &program, sizeof(program));
}

/// Takes the program away from all sockets of the port.
static inline int CPosixUDP_steerNoMore(int descriptor) {
    int value = 0;
    const int detachProgram = 68;  // SO_DETACH_REUSEPORT_BPF
    return setsockopt(descriptor, SOL_SOCKET, detachProgram, &value, sizeof(value));
}
#endif

#endif
