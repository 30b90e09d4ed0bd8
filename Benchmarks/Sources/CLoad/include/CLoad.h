#ifndef CLOAD_H
#define CLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The far side of what is measured: a UDP socket that is at all addresses of 127.0.0.0/8 at once, so that one process
// can be a hundred thousand peers.

// Addresses are IPv4, in the host's byte order.

// Returns the descriptor, or -1.
int load_socket(void);
uint16_t load_port(int descriptor);

bool load_send(int descriptor, uint32_t from, uint32_t to, uint16_t port, const void *bytes, size_t count);

// Receives a datagram and says at which address. Returns its size; -1: there is none. Waits for up to `milliseconds`.
ptrdiff_t load_receive(int descriptor, int milliseconds, void *bytes, size_t room, uint32_t *at);

struct load_datagram {
    uint32_t address;
    uint32_t size;
    size_t offset;
};

// Sends datagrams from their addresses, and receives an answer to each, in any order. Keeps `window` of them
// unanswered, so that whoever answers is never without work. Answer `i` is at `answers + i * stride`.
//
// Returns how many were answered: fewer than `count` when nothing comes for some seconds.
size_t load_exchange(int descriptor, uint32_t to, uint16_t port, const struct load_datagram *datagrams,
                     const uint8_t *bytes, size_t count, size_t window, struct load_datagram *received,
                     uint8_t *answers, size_t stride);

// A UDP socket at 127.0.0.1 for whatever comes. Returns the descriptor, or -1.
int load_sink(void);

// Receives for ever, looks at nothing, and counts datagrams. It stays awake for some milliseconds, so that senders need
// not wake it up, and what the kernel has not taken apart yet it leaves so, as if a network interface did that work.
void load_drain(int descriptor);
uint64_t load_drained(void);

#endif
