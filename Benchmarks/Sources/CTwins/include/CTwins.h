#ifndef CTWINS_H
#define CTWINS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// What the library is measured against: the same work in plain C on the same OpenSSL, with nothing around it.

// Records of DTLS 1.2 under AES-128-GCM on bare EVP, with the replay window and no other check.
struct twin_records;

// A record is so much longer than its content.
enum { TWIN_RECORD_OVERHEAD = 37 };

// `rekeys`: one context for all, which gets the key anew for each record; otherwise one that keeps it.
struct twin_records *twin_records_new(bool rekeys);
// The records of another association, told from others by its number: with a context that keeps its key, or with those
// of `lender`, which get the key anew for each record, and which must stay.
struct twin_records *twin_records_keep(uint32_t number);
struct twin_records *twin_records_share(const struct twin_records *lender, uint32_t number);
void twin_records_free(struct twin_records *records);

// Seals `count` records of `size` bytes each, `stride` bytes apart; 0: over each other. Returns how many it could.
size_t twin_seal(struct twin_records *records, const uint8_t *content, size_t size, size_t count, uint8_t *out,
                 size_t stride);

// Opens them, one after the other into the same place. Returns how many were authentic and new.
size_t twin_open(struct twin_records *records, const uint8_t *in, size_t size, size_t count, size_t stride,
                 uint8_t *out);

// Handshakes of two SSL objects with a pre-shared key, without a cookie or a ticket: the clients' and the servers' work
// together.
struct twin_handshakes;
struct twin_handshakes *twin_handshakes_new(const char *suite);
// For another thread, with the same contexts.
struct twin_handshakes *twin_handshakes_share(const struct twin_handshakes *handshakes);
void twin_handshakes_free(struct twin_handshakes *handshakes);

// Returns how many of `count` came about.
size_t twin_shake_hands(struct twin_handshakes *handshakes, size_t count);

// Connections by their peer's IPv4 address and port, in chains.
struct twin_table;
struct twin_table *twin_table_new(size_t count);
void twin_table_free(struct twin_table *table);

// Adds the numbers of the connections that `indices` mean, each looked up by its address.
uint64_t twin_table_visit(const struct twin_table *table, const uint32_t *indices, size_t count);

// The address and the port of connection `index`.
uint32_t twin_address(uint32_t index);
uint16_t twin_port(uint32_t index);

// A server, or a client, on a UDP socket at 127.0.0.1, that has as many associations, with peers at one port and at
// `first` and the addresses that follow. It opens what comes in batches of 32, and echoes it.
struct twin_echo;
struct twin_echo *twin_echo_new(uint32_t first, size_t count, uint16_t port, bool rekeys);
uint16_t twin_echo_port(const struct twin_echo *echo);

// Does not return.
void twin_echo_run(struct twin_echo *echo);

// How datagrams leave: a call for each, on a socket that is connected or not; a call for 48; or a call for 48 that are
// one for the kernel until it must take them apart (UDP_SEGMENT).
enum twin_sending { TWIN_SEND, TWIN_SENDTO, TWIN_SENDMMSG, TWIN_SEGMENT };

// Sends to a port of 127.0.0.1.
struct twin_sender;
struct twin_sender *twin_sender_new(uint16_t port, enum twin_sending how);

// Seals as many payloads and sends them as fast as it can. Returns how many it could.
size_t twin_send(struct twin_sender *sender, const uint8_t *content, size_t size, size_t count);

// CPU time of this thread, in nanoseconds.
uint64_t twin_cpu_time(void);

// How often this thread had to wait for something, such as a lock that another one had; 0 where that is not known.
uint64_t twin_waits(void);

#endif
