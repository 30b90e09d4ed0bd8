#ifdef __linux__
// For sendmmsg.
#define _GNU_SOURCE

#include "CTwins.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

enum { BATCH = 48, LARGEST = 1300 };

struct twin_sender {
    int descriptor;
    enum twin_sending how;
    struct sockaddr_in peer;
    struct twin_records *records;
    uint8_t bytes[BATCH * LARGEST];
};

struct twin_sender *twin_sender_new(uint16_t port, enum twin_sending how) {
    struct twin_sender *sender = calloc(1, sizeof *sender);
    if (!sender) return NULL;
    int size = 4 << 20;
    sender->how = how;
    sender->records = twin_records_new(false);
    sender->descriptor = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    setsockopt(sender->descriptor, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    sender->peer = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port)};
    sender->peer.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (!sender->records || sender->descriptor < 0) return NULL;
    if (how == TWIN_SEND && connect(sender->descriptor, (struct sockaddr *)&sender->peer, sizeof sender->peer) != 0)
        return NULL;
    return sender;
}

static struct msghdr message(struct twin_sender *sender, struct iovec *data) {
    return (struct msghdr){
        .msg_name = &sender->peer, .msg_namelen = sizeof sender->peer, .msg_iov = data, .msg_iovlen = 1};
}

static size_t send_segments(struct twin_sender *sender, size_t size, size_t count) {
    struct iovec data = {sender->bytes, size * count};
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(uint16_t))] = {0};
    struct msghdr all = message(sender, &data);
    all.msg_control = control;
    all.msg_controllen = sizeof control;
    struct cmsghdr *header = CMSG_FIRSTHDR(&all);
    header->cmsg_level = IPPROTO_UDP;
    header->cmsg_type = UDP_SEGMENT;
    header->cmsg_len = CMSG_LEN(sizeof(uint16_t));
    uint16_t segment = (uint16_t)size;
    memcpy(CMSG_DATA(header), &segment, sizeof segment);
    return sendmsg(sender->descriptor, &all, 0) == (ssize_t)data.iov_len ? count : 0;
}

static size_t send_many(struct twin_sender *sender, size_t size, size_t count) {
    struct iovec data[BATCH];
    struct mmsghdr messages[BATCH] = {0};
    for (size_t i = 0; i < count; i++) {
        data[i] = (struct iovec){sender->bytes + i * size, size};
        messages[i].msg_hdr = message(sender, &data[i]);
    }
    size_t sent = 0;
    while (sent < count) {
        int number = sendmmsg(sender->descriptor, messages + sent, (unsigned)(count - sent), 0);
        if (number <= 0) break;
        sent += (size_t)number;
    }
    return sent;
}

static size_t send_one(struct twin_sender *sender, size_t size) {
    const struct sockaddr *peer = sender->how == TWIN_SENDTO ? (struct sockaddr *)&sender->peer : NULL;
    ssize_t sent = sendto(sender->descriptor, sender->bytes, size, 0, peer, peer ? sizeof sender->peer : 0);
    return sent == (ssize_t)size;
}

size_t twin_send(struct twin_sender *sender, const uint8_t *content, size_t size, size_t count) {
    size_t sealed = size + TWIN_RECORD_OVERHEAD, done = 0;
    if (sealed > LARGEST) return 0;
    bool batches = sender->how == TWIN_SENDMMSG || sender->how == TWIN_SEGMENT;
    while (done < count) {
        size_t batch = !batches ? 1 : count - done < BATCH ? count - done : BATCH, sent;
        if (twin_seal(sender->records, content, size, batch, sender->bytes, sealed) != batch) break;
        if (sender->how == TWIN_SEGMENT) sent = send_segments(sender, sealed, batch);
        else if (sender->how == TWIN_SENDMMSG) sent = send_many(sender, sealed, batch);
        else sent = send_one(sender, sealed);
        if (sent != batch) break;
        done += batch;
    }
    return done;
}

#endif
