#include "CFuzzing.h"

#include <openssl/rand.h>

// RAND_set_rand_method is deprecated for anything but what it does here (OpenSSL's own fuzzers use it too).
#pragma clang diagnostic ignored "-Wdeprecated-declarations"

static uint64_t state;

// SplitMix64
static int fill(unsigned char *bytes, int count) {
    for (int index = 0; index < count; index++) {
        uint64_t mixed = state += 0x9E3779B97F4A7C15;
        mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9;
        mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB;
        bytes[index] = (unsigned char)(mixed ^ (mixed >> 31));
    }
    return 1;
}

static int status(void) {
    return 1;
}

static RAND_METHOD method = { .bytes = fill, .pseudorand = fill, .status = status };

void fuzzing_seed_randomness(uint64_t seed) {
    static int is_set;
    state = seed;
    if (!is_set) is_set = RAND_set_rand_method(&method);
}
