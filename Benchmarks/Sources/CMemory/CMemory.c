#define _GNU_SOURCE
#include "CMemory.h"

#include <errno.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

void memory_trim(void) {
    malloc_trim(0);
}

uint64_t memory_allocated(void) {
    struct mallinfo2 info = mallinfo2();
    // What came out of an arena, and what was large enough to be mapped by itself.
    return info.uordblks + info.hblkhd;
}

uint64_t memory_resident(void) {
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file) return 0;
    unsigned long long size = 0, resident = 0;
    int count = fscanf(file, "%llu %llu", &size, &resident);
    fclose(file);
    return count == 2 ? resident * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

static _Atomic bool counts;
static _Atomic int64_t blocks[MEMORY_CLASSES];
static _Atomic int64_t bytes[MEMORY_CLASSES];
static _Atomic uint64_t made;

void memory_begin_census(void) {
    atomic_store(&counts, true);
}

uint64_t memory_made(void) {
    return atomic_load(&made);
}

size_t memory_class_size(size_t index) {
    return (index + 2) * 16;
}

int64_t memory_class_blocks(size_t index) {
    return index < MEMORY_CLASSES ? atomic_load(&blocks[index]) : 0;
}

int64_t memory_class_bytes(size_t index) {
    return index < MEMORY_CLASSES ? atomic_load(&bytes[index]) : 0;
}

static void count(void *block, int64_t sign) {
    if (!block || !atomic_load_explicit(&counts, memory_order_relaxed)) return;
    if (sign > 0) atomic_fetch_add_explicit(&made, 1, memory_order_relaxed);
    size_t size = malloc_usable_size(block) + sizeof(size_t);
    size_t index = size / 16 - 2;
    if (index > MEMORY_CLASSES - 1) index = MEMORY_CLASSES - 1;
    atomic_fetch_add_explicit(&blocks[index], sign, memory_order_relaxed);
    atomic_fetch_add_explicit(&bytes[index], sign * (int64_t)size, memory_order_relaxed);
}

#ifndef WITHOUT_CENSUS

// A program that defines these replaces glibc's for all of its libraries ("Replacing malloc" in glibc's manual). What
// does the work are glibc's own, under their second names.

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

void *malloc(size_t size) {
    void *block = __libc_malloc(size);
    count(block, 1);
    return block;
}

void *calloc(size_t number, size_t size) {
    void *block = __libc_calloc(number, size);
    count(block, 1);
    return block;
}

void *realloc(void *former, size_t size) {
    count(former, -1);
    void *block = __libc_realloc(former, size);
    // Where there was no memory for another one, the former one is still there.
    count(block || size == 0 ? block : former, 1);
    return block;
}

void *memalign(size_t alignment, size_t size) {
    void *block = __libc_memalign(alignment, size);
    count(block, 1);
    return block;
}

void *aligned_alloc(size_t alignment, size_t size) {
    return memalign(alignment, size);
}

int posix_memalign(void **block, size_t alignment, size_t size) {
    if (alignment < sizeof(void *) || (alignment & (alignment - 1)) != 0) return EINVAL;
    void *aligned = memalign(alignment, size);
    if (!aligned) return ENOMEM;
    *block = aligned;
    return 0;
}

void free(void *block) {
    count(block, -1);
    __libc_free(block);
}

#endif
