// Many datagrams a system call, where the system has that: recvmmsg, sendmmsg, UDP_GRO and UDP_SEGMENT of Linux.
// As in shim.h nothing here allocates or waits, and every function answers -1 and sets errno when it fails.

#ifndef SWIFT_DTLS_CPOSIXUDP_BATCHES_H
#define SWIFT_DTLS_CPOSIXUDP_BATCHES_H

#include "shim.h"

// MARK: Addresses

/// A peer, IPv4 in its mapped form (::ffff:192.0.2.1).
typedef struct {
    /// In network order.
    uint64_t high;
    uint64_t low;
    uint32_t scope;
    /// In the host's order.
    uint16_t port;
    /// 0: of neither family, or cut short.
    uint16_t isKnown;
} CPosixUDP_Address;

typedef union {
    struct sockaddr generic;
    struct sockaddr_in ipv4;
    struct sockaddr_in6 ipv6;
} CPosixUDP_Name;

static const uint8_t CPosixUDP_mappedPrefix[4] = {0, 0, 0xff, 0xff};

static inline void CPosixUDP_readName(const CPosixUDP_Name *name, size_t length, CPosixUDP_Address *address) {
    address->isKnown = 0;
    if (length >= sizeof(name->ipv6) && name->generic.sa_family == AF_INET6) {
        memcpy(&address->high, &name->ipv6.sin6_addr, 8);
        memcpy(&address->low, (const uint8_t *)&name->ipv6.sin6_addr + 8, 8);
        address->scope = name->ipv6.sin6_scope_id;
        address->port = ntohs(name->ipv6.sin6_port);
        address->isKnown = 1;
    } else if (length >= sizeof(name->ipv4) && name->generic.sa_family == AF_INET) {
        address->high = 0;
        memcpy(&address->low, CPosixUDP_mappedPrefix, 4);
        memcpy((uint8_t *)&address->low + 4, &name->ipv4.sin_addr, 4);
        address->scope = 0;
        address->port = ntohs(name->ipv4.sin_port);
        address->isKnown = 1;
    }
}

/// Answers the name's length.
static inline uint32_t CPosixUDP_writeName(const CPosixUDP_Address *address, int isIPv4, CPosixUDP_Name *name) {
    memset(name, 0, sizeof(*name));
    if (isIPv4) {
        name->ipv4.sin_family = AF_INET;
        name->ipv4.sin_port = htons(address->port);
        memcpy(&name->ipv4.sin_addr, (const uint8_t *)&address->low + 4, 4);
#ifdef __APPLE__
        name->ipv4.sin_len = sizeof(name->ipv4);
#endif
        return sizeof(name->ipv4);
    }
    name->ipv6.sin6_family = AF_INET6;
    name->ipv6.sin6_port = htons(address->port);
    memcpy(&name->ipv6.sin6_addr, &address->high, 8);
    memcpy((uint8_t *)&name->ipv6.sin6_addr + 8, &address->low, 8);
    name->ipv6.sin6_scope_id = address->scope;
#ifdef __APPLE__
    name->ipv6.sin6_len = sizeof(name->ipv6);
#endif
    return sizeof(name->ipv6);
}

/// struct mmsghdr, which glibc hides from programs without _GNU_SOURCE.
struct CPosixUDP_mmsghdr {
    struct msghdr header;
    unsigned int length;
};

#ifdef __linux__
// The system's functions under names of our own, as they are hidden likewise.
extern int CPosixUDP_recvmmsg(int, struct CPosixUDP_mmsghdr *, unsigned int, int, void *) __asm__("recvmmsg");
extern int CPosixUDP_sendmmsg(int, struct CPosixUDP_mmsghdr *, unsigned int, int) __asm__("sendmmsg");
#endif

// MARK: Receiving

enum { CPosixUDP_maximumReads = 32 };

/// What stands about a read in the kernel's form. It is set up once; only what a call has changed is set up again.
typedef struct {
    struct CPosixUDP_mmsghdr messages[CPosixUDP_maximumReads];
    struct iovec vectors[CPosixUDP_maximumReads];
    CPosixUDP_Name names[CPosixUDP_maximumReads];
    CPosixUDP_Control controls[CPosixUDP_maximumReads];
} CPosixUDP_Reads;

/// One message that was received: a datagram, or several of one peer that the kernel has put together.
typedef struct {
    uint32_t length;
    /// The length of each datagram but the last, which may be shorter; 0 when there is but one.
    uint32_t segment;
    /// Whether there was more than the buffer could take.
    int isTruncated;
    CPosixUDP_Address source;
    CPosixUDP_Local local;
} CPosixUDP_Incoming;

static inline size_t CPosixUDP_readsSize(void) { return sizeof(CPosixUDP_Reads); }

static inline void CPosixUDP_resetRead(CPosixUDP_Reads *reads, unsigned index) {
    struct msghdr *header = &reads->messages[index].header;
    header->msg_namelen = sizeof(struct sockaddr_in6);
    header->msg_controllen = sizeof(reads->controls[index]);
    header->msg_flags = 0;
}

/// Sets up reads into `count` buffers of `size` bytes, `stride` bytes apart. `memory` is of zeros.
static inline void CPosixUDP_prepareReads(void *memory, void *buffers, size_t stride, size_t size, unsigned count) {
    CPosixUDP_Reads *reads = (CPosixUDP_Reads *)memory;
    for (unsigned index = 0; index < count && index < CPosixUDP_maximumReads; index++) {
        reads->vectors[index].iov_base = (uint8_t *)buffers + stride * index;
        reads->vectors[index].iov_len = size;
        struct msghdr *header = &reads->messages[index].header;
        header->msg_name = &reads->names[index];
        header->msg_iov = &reads->vectors[index];
        header->msg_iovlen = 1;
        header->msg_control = &reads->controls[index];
        CPosixUDP_resetRead(reads, index);
    }
}

/// recvmmsg(2) into the first `count` buffers. Answers how many messages there are; fewer than `count` when there was
/// no more. An error that comes after some of them is kept by the kernel for the next call.
static inline int CPosixUDP_receiveMany(int descriptor, void *memory, unsigned count, int flags) {
#ifdef __linux__
    return CPosixUDP_recvmmsg(descriptor, ((CPosixUDP_Reads *)memory)->messages, count, flags, 0);
#else
    (void)descriptor, (void)memory, (void)count, (void)flags;
    errno = ENOSYS;
    return -1;
#endif
}

/// recvmsg(2) into the buffer of this index.
static inline int CPosixUDP_receiveOne(int descriptor, void *memory, unsigned index, int flags) {
    struct CPosixUDP_mmsghdr *message = &((CPosixUDP_Reads *)memory)->messages[index];
    ssize_t count = recvmsg(descriptor, &message->header, flags);
    if (count < 0) return -1;
    message->length = (unsigned int)count;
    return 1;
}

/// Reads what came into the buffer of this index, and sets it up for another read.
static inline void CPosixUDP_takeRead(void *memory, unsigned index, CPosixUDP_Incoming *incoming) {
    CPosixUDP_Reads *reads = (CPosixUDP_Reads *)memory;
    struct msghdr *header = &reads->messages[index].header;
    incoming->length = reads->messages[index].length;
    incoming->isTruncated = (header->msg_flags & MSG_TRUNC) != 0;
    incoming->segment = 0;
    CPosixUDP_readName(&reads->names[index], header->msg_namelen, &incoming->source);
    CPosixUDP_readLocal(header, &incoming->local);
#ifdef __linux__
    for (struct cmsghdr *item = CMSG_FIRSTHDR(header); item; item = CMSG_NXTHDR(header, item)) {
        int segment;
        if (item->cmsg_level != IPPROTO_UDP || item->cmsg_type != CPosixUDP_UDP_GRO) continue;
        if (item->cmsg_len < CMSG_LEN(sizeof(segment))) continue;
        memcpy(&segment, CMSG_DATA(item), sizeof(segment));
        if (segment > 0 && (uint32_t)segment < incoming->length) incoming->segment = (uint32_t)segment;
    }
#endif
    CPosixUDP_resetRead(reads, index);
}

// MARK: Sending

enum { CPosixUDP_maximumSends = 64 };

/// One message to be sent: a datagram, or several to one peer that the kernel takes apart.
typedef struct {
    /// Where its bytes begin.
    uint32_t offset;
    uint32_t length;
    /// The length of each datagram but the last, which may be shorter.
    uint32_t segment;
    uint32_t datagrams;
    CPosixUDP_Address peer;
    CPosixUDP_Local local;
} CPosixUDP_Outgoing;

/// sendmmsg(2) of up to CPosixUDP_maximumSends messages, or what does the same for one. Their bytes are in `bytes`.
/// `family` is the socket's address family, or AF_UNSPEC for a connected socket. Answers how many were sent; the error
/// is that of the first.
static inline int CPosixUDP_sendMany(
    int descriptor, int family, const void *bytes, const CPosixUDP_Outgoing *outgoing, unsigned count, int flags
) {
#ifdef __linux__
    struct CPosixUDP_mmsghdr messages[CPosixUDP_maximumSends];
    struct iovec vectors[CPosixUDP_maximumSends];
    CPosixUDP_Name names[CPosixUDP_maximumSends];
    CPosixUDP_Control controls[CPosixUDP_maximumSends];
    if (count == 1 && outgoing->datagrams <= 1) {
        // The plain call is cheaper, and does not end with a look for others to run.
        uint32_t length = 0;
        if (family != AF_UNSPEC) length = CPosixUDP_writeName(&outgoing->peer, family == AF_INET, &names[0]);
        const void *datagram = (const uint8_t *)bytes + outgoing->offset;
        ssize_t sent = CPosixUDP_send(
            descriptor, datagram, outgoing->length, flags, length ? &names[0] : NULL, length, &outgoing->local
        );
        return sent < 0 ? -1 : 1;
    }
    if (count > CPosixUDP_maximumSends) count = CPosixUDP_maximumSends;
    for (unsigned index = 0; index < count; index++) {
        const CPosixUDP_Outgoing *one = &outgoing[index];
        struct msghdr *header = &messages[index].header;
        memset(header, 0, sizeof(*header));
        vectors[index].iov_base = (uint8_t *)bytes + one->offset;
        vectors[index].iov_len = one->length;
        header->msg_iov = &vectors[index];
        header->msg_iovlen = 1;
        size_t used = 0;
        if (family != AF_UNSPEC) {
            int isIPv4 = family == AF_INET;
            header->msg_name = &names[index];
            header->msg_namelen = CPosixUDP_writeName(&one->peer, isIPv4, &names[index]);
            if (one->local.isKnown) {
                memset(&controls[index], 0, sizeof(controls[index]));
                used = CPosixUDP_writeLocal(controls[index].bytes, 0, isIPv4, &one->local);
            }
        }
        if (one->datagrams > 1) {
            struct cmsghdr *item = (struct cmsghdr *)(controls[index].bytes + used);
            uint16_t segment = (uint16_t)one->segment;
            memset(item, 0, CMSG_SPACE(sizeof(segment)));
            item->cmsg_level = IPPROTO_UDP;
            item->cmsg_type = CPosixUDP_UDP_SEGMENT;
            item->cmsg_len = CMSG_LEN(sizeof(segment));
            memcpy(CMSG_DATA(item), &segment, sizeof(segment));
            used += CMSG_SPACE(sizeof(segment));
        }
        if (used) {
            header->msg_control = &controls[index];
            header->msg_controllen = used;
        }
    }
    return CPosixUDP_sendmmsg(descriptor, messages, count, flags);
#else
    (void)descriptor, (void)family, (void)bytes, (void)outgoing, (void)count, (void)flags;
    errno = ENOSYS;
    return -1;
#endif
}

#endif
