#ifdef __linux__
// For recvmmsg and sendmmsg.
#define _GNU_SOURCE

#include "CTwins.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BATCH = 32, LARGEST = 2048 };

struct association {
    struct association *next;
    uint32_t address;
    uint16_t port;
    struct twin_records *records;
};

struct twin_echo {
    int descriptor;
    unsigned shift;
    struct association **heads;
    struct twin_records *lender;
};

static struct association **head(const struct twin_echo *echo, uint32_t address, uint16_t port) {
    return &echo->heads[((uint64_t)address << 16 | port) * 0x9E3779B97F4A7C15u >> echo->shift];
}

struct twin_echo *twin_echo_new(uint32_t first, size_t count, uint16_t port, bool rekeys) {
    struct twin_echo *echo = calloc(1, sizeof *echo);
    if (!echo) return NULL;
    echo->shift = 60;
    while (echo->shift > 30 && (1ull << (64 - echo->shift)) < count) echo->shift--;
    echo->heads = calloc(1ull << (64 - echo->shift), sizeof *echo->heads);
    echo->lender = twin_records_new(true);
    echo->descriptor = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int size = 4 << 20;
    setsockopt(echo->descriptor, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    setsockopt(echo->descriptor, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (!echo->heads || !echo->lender || bind(echo->descriptor, (struct sockaddr *)&name, sizeof name) != 0)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        struct association *association = calloc(1, sizeof *association);
        if (!association) return NULL;
        association->address = first + (uint32_t)i;
        association->port = port;
        association->records = rekeys ? twin_records_share(echo->lender, (uint32_t)i) : twin_records_keep((uint32_t)i);
        if (!association->records) return NULL;
        struct association **chain = head(echo, association->address, port);
        association->next = *chain;
        *chain = association;
    }
    return echo;
}

uint16_t twin_echo_port(const struct twin_echo *echo) {
    struct sockaddr_in name = {0};
    socklen_t length = sizeof name;
    return getsockname(echo->descriptor, (struct sockaddr *)&name, &length) == 0 ? ntohs(name.sin_port) : 0;
}

void twin_echo_run(struct twin_echo *echo) {
    static uint8_t in[BATCH][LARGEST], out[BATCH][LARGEST], content[LARGEST];
    struct mmsghdr messages[BATCH] = {0}, answers[BATCH] = {0};
    struct iovec arriving[BATCH], leaving[BATCH];
    struct sockaddr_in peers[BATCH];
    while (true) {
        for (int i = 0; i < BATCH; i++) {
            arriving[i] = (struct iovec){in[i], LARGEST};
            messages[i].msg_hdr = (struct msghdr){
                .msg_name = &peers[i], .msg_namelen = sizeof peers[i], .msg_iov = &arriving[i], .msg_iovlen = 1};
        }
        int count = recvmmsg(echo->descriptor, messages, BATCH, MSG_WAITFORONE, NULL);
        unsigned number = 0;
        for (int i = 0; i < count; i++) {
            uint32_t address = ntohl(peers[i].sin_addr.s_addr);
            uint16_t port = ntohs(peers[i].sin_port);
            const struct association *a = *head(echo, address, port);
            while (a && (a->address != address || a->port != port)) a = a->next;
            size_t size = messages[i].msg_len;
            if (!a || size < TWIN_RECORD_OVERHEAD || size > LARGEST) continue;
            size -= TWIN_RECORD_OVERHEAD;
            if (twin_open(a->records, in[i], size, 1, 0, content) != 1) continue;
            if (twin_seal(a->records, content, size, 1, out[number], 0) != 1) continue;
            leaving[number] = (struct iovec){out[number], size + TWIN_RECORD_OVERHEAD};
            answers[number].msg_hdr = (struct msghdr){
                .msg_name = &peers[i], .msg_namelen = sizeof peers[i], .msg_iov = &leaving[number], .msg_iovlen = 1};
            number++;
        }
        for (unsigned sent = 0; sent < number;) {
            int done = sendmmsg(echo->descriptor, answers + sent, number - sent, 0);
            if (done <= 0) break;
            sent += (unsigned)done;
        }
    }
}

#endif
