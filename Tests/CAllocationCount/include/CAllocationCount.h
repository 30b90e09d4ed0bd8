#ifndef CALLOCATIONCOUNT_H
#define CALLOCATIONCOUNT_H

#include <stdbool.h>
#include <stdint.h>

/// Whether this program's allocations are counted: with glibc, and without a sanitizer, which has its own allocator.
bool allocation_is_counted(void);

/// How many blocks the whole process has allocated so far, on all of its threads.
uint64_t allocation_count(void);

#endif
