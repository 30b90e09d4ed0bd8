#include "CTwins.h"

#include <stdlib.h>

struct connection {
    struct connection *next;
    uint64_t number;
    uint32_t address;
    uint16_t port;
};

struct twin_table {
    struct connection **heads;
    unsigned shift;
};

static size_t slot(const struct twin_table *table, uint32_t address, uint16_t port) {
    return (size_t)(((uint64_t)address << 16 | port) * 0x9E3779B97F4A7C15u >> table->shift);
}

// 64 ports an address, as of clients behind NATs.
uint32_t twin_address(uint32_t index) {
    return 0x0A000000u + index / 64;
}

uint16_t twin_port(uint32_t index) {
    return (uint16_t)(10000 + index % 64 * 613);
}

struct twin_table *twin_table_new(size_t count) {
    struct twin_table *table = calloc(1, sizeof *table);
    if (!table) return NULL;
    table->shift = 60;
    while (table->shift > 30 && (1ull << (64 - table->shift)) < count) table->shift--;
    table->heads = calloc(1ull << (64 - table->shift), sizeof *table->heads);
    for (size_t i = 0; table->heads && i < count; i++) {
        struct connection *connection = calloc(1, sizeof *connection);
        if (!connection) break;
        connection->address = twin_address((uint32_t)i);
        connection->port = twin_port((uint32_t)i);
        connection->number = i;
        struct connection **head = &table->heads[slot(table, connection->address, connection->port)];
        connection->next = *head;
        *head = connection;
    }
    return table;
}

void twin_table_free(struct twin_table *table) {
    if (!table) return;
    for (size_t i = 0; table->heads && i < 1ull << (64 - table->shift); i++) {
        for (struct connection *c = table->heads[i], *next; c; c = next) {
            next = c->next;
            free(c);
        }
    }
    free(table->heads);
    free(table);
}

uint64_t twin_table_visit(const struct twin_table *table, const uint32_t *indices, size_t count) {
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t address = twin_address(indices[i]);
        uint16_t port = twin_port(indices[i]);
        const struct connection *c = table->heads[slot(table, address, port)];
        while (c && (c->address != address || c->port != port)) c = c->next;
        if (c) sum += c->number;
    }
    return sum;
}
