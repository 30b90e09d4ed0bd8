#ifndef CFUZZING_H
#define CFUZZING_H

#include <stdint.h>

// From now on OpenSSL's randomness is the same sequence for the same seed, so that an input does the same in every run.
void fuzzing_seed_randomness(uint64_t seed);

#endif
