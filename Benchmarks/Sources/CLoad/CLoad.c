#define _GNU_SOURCE
#include "CLoad.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef UDP_GRO
#define UDP_GRO 104
#endif

enum { BATCH = 32, PATIENCE = 10000, TRIES = 10000 };

int load_socket(void) {
    int descriptor = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (descriptor < 0) return -1;
    int size = 4 << 20, on = 1;
    setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    setsockopt(descriptor, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    struct sockaddr_in any = {.sin_family = AF_INET};
    if (setsockopt(descriptor, IPPROTO_IP, IP_PKTINFO, &on, sizeof on) != 0
        || bind(descriptor, (struct sockaddr *)&any, sizeof any) != 0) {
        close(descriptor);
        return -1;
    }
    return descriptor;
}

uint16_t load_port(int descriptor) {
    struct sockaddr_in name = {0};
    socklen_t length = sizeof name;
    return getsockname(descriptor, (struct sockaddr *)&name, &length) == 0 ? ntohs(name.sin_port) : 0;
}

// A message with all that it points to.
struct envelope {
    struct iovec bytes;
    struct sockaddr_in peer;
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(struct in_pktinfo))];
};

static void address(struct msghdr *message, struct envelope *envelope, uint32_t to, uint16_t port) {
    envelope->peer = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port)};
    envelope->peer.sin_addr.s_addr = htonl(to);
    memset(envelope->control, 0, sizeof envelope->control);
    *message = (struct msghdr){
        .msg_name = &envelope->peer,
        .msg_namelen = sizeof envelope->peer,
        .msg_iov = &envelope->bytes,
        .msg_iovlen = 1,
        .msg_control = envelope->control,
        .msg_controllen = sizeof envelope->control,
    };
}

static void set_source(struct msghdr *message, uint32_t from) {
    struct cmsghdr *header = CMSG_FIRSTHDR(message);
    header->cmsg_level = IPPROTO_IP;
    header->cmsg_type = IP_PKTINFO;
    header->cmsg_len = CMSG_LEN(sizeof(struct in_pktinfo));
    struct in_pktinfo info = {.ipi_spec_dst.s_addr = htonl(from)};
    memcpy(CMSG_DATA(header), &info, sizeof info);
}

static uint32_t destination(struct msghdr *message) {
    struct in_pktinfo info = {0};
    for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header; header = CMSG_NXTHDR(message, header))
        if (header->cmsg_level == IPPROTO_IP && header->cmsg_type == IP_PKTINFO)
            memcpy(&info, CMSG_DATA(header), sizeof info);
    return ntohl(info.ipi_addr.s_addr);
}

bool load_send(int descriptor, uint32_t from, uint32_t to, uint16_t port, const void *bytes, size_t count) {
    struct msghdr message;
    struct envelope envelope;
    address(&message, &envelope, to, port);
    set_source(&message, from);
    envelope.bytes = (struct iovec){(void *)bytes, count};
    return sendmsg(descriptor, &message, 0) == (ssize_t)count;
}

ptrdiff_t load_receive(int descriptor, int milliseconds, void *bytes, size_t room, uint32_t *at) {
    struct pollfd request = {.fd = descriptor, .events = POLLIN};
    if (milliseconds > 0 && poll(&request, 1, milliseconds) <= 0) return -1;
    struct msghdr message;
    struct envelope envelope;
    address(&message, &envelope, 0, 0);
    envelope.bytes = (struct iovec){bytes, room};
    ssize_t count = recvmsg(descriptor, &message, 0);
    if (count >= 0) *at = destination(&message);
    return count;
}

size_t load_exchange(int descriptor, uint32_t to, uint16_t port, const struct load_datagram *datagrams,
                     const uint8_t *bytes, size_t count, size_t window, struct load_datagram *received,
                     uint8_t *answers, size_t stride) {
    struct mmsghdr messages[BATCH];
    struct envelope envelopes[BATCH];
    size_t sent = 0, answered = 0;
    while (answered < count) {
        size_t rest = count - sent, room = window - (sent - answered);
        if (rest > 0 && (room >= BATCH || room >= rest)) {
            size_t number = rest < BATCH ? rest : BATCH;
            for (size_t i = 0; i < number; i++) {
                const struct load_datagram *datagram = &datagrams[sent + i];
                address(&messages[i].msg_hdr, &envelopes[i], to, port);
                set_source(&messages[i].msg_hdr, datagram->address);
                envelopes[i].bytes = (struct iovec){(void *)(bytes + datagram->offset), datagram->size};
            }
            int done = sendmmsg(descriptor, messages, (unsigned)number, 0);
            if (done <= 0) return answered;
            sent += (size_t)done;
        }
        size_t number = count - answered < BATCH ? count - answered : BATCH;
        for (size_t i = 0; i < number; i++) {
            address(&messages[i].msg_hdr, &envelopes[i], 0, 0);
            envelopes[i].bytes = (struct iovec){answers + (answered + i) * stride, stride};
        }
        int done = recvmmsg(descriptor, messages, (unsigned)number, 0, NULL);
        if (done > 0) {
            for (int i = 0; i < done; i++, answered++)
                received[answered] = (struct load_datagram){
                    .address = destination(&messages[i].msg_hdr),
                    .size = messages[i].msg_len,
                    .offset = answered * stride,
                };
        } else if (sent == count || window - (sent - answered) < BATCH) {
            struct pollfd request = {.fd = descriptor, .events = POLLIN};
            if (poll(&request, 1, PATIENCE) <= 0) return answered;
        }
    }
    return answered;
}

int load_sink(void) {
    int descriptor = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), size = 4 << 20;
    setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (descriptor >= 0 && bind(descriptor, (struct sockaddr *)&name, sizeof name) == 0) return descriptor;
    close(descriptor);
    return -1;
}

static _Atomic uint64_t drained;

uint64_t load_drained(void) {
    return drained;
}

void load_drain(int descriptor) {
    int on = 1;
    setsockopt(descriptor, IPPROTO_UDP, UDP_GRO, &on, sizeof on);
    struct mmsghdr messages[BATCH] = {0};
    char control[BATCH][CMSG_SPACE(sizeof(int))];
    int idle = 0;
    while (true) {
        // No room for bytes: they are not even copied.
        for (int i = 0; i < BATCH; i++)
            messages[i].msg_hdr = (struct msghdr){.msg_control = control[i], .msg_controllen = sizeof control[i]};
        int count = recvmmsg(descriptor, messages, BATCH, MSG_DONTWAIT | MSG_TRUNC, NULL);
        idle = count > 0 ? 0 : idle + 1;
        if (idle > TRIES) {
            struct pollfd request = {.fd = descriptor, .events = POLLIN};
            poll(&request, 1, -1);
        }
        for (int i = 0; i < count; i++) {
            int size = 0;
            for (struct cmsghdr *header = CMSG_FIRSTHDR(&messages[i].msg_hdr); header;
                 header = CMSG_NXTHDR(&messages[i].msg_hdr, header))
                if (header->cmsg_level == IPPROTO_UDP && header->cmsg_type == UDP_GRO)
                    memcpy(&size, CMSG_DATA(header), sizeof size);
            drained += size > 0 ? (messages[i].msg_len + (unsigned)size - 1) / (unsigned)size : 1;
        }
    }
}
