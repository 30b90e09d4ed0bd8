#ifndef CMEMORY_H
#define CMEMORY_H

#include <stddef.h>
#include <stdint.h>

// What Linux and glibc say of this process's memory.

// Gives what was freed back to the system, so that it does not count as resident.
void memory_trim(void);

// Bytes that malloc and its kin have given out, over all arenas: with the header and the rounding of each block.
uint64_t memory_allocated(void);

// Bytes of the process that are in memory; 0 when /proc/self/statm cannot be read.
uint64_t memory_resident(void);

// The census: how many blocks of each size there are more, or fewer, than when it began.
void memory_begin_census(void);

// How many blocks were given out since then, those that were given back included; what only grew or shrank in its place
// counts as well.
uint64_t memory_made(void);

// Class `index` is of the blocks of memory_class_size(index) bytes, header included; the last one is of all that are
// larger.
enum { MEMORY_CLASSES = 513 };

size_t memory_class_size(size_t index);
int64_t memory_class_blocks(size_t index);
int64_t memory_class_bytes(size_t index);

#endif
