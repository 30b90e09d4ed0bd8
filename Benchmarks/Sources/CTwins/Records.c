#ifdef __linux__
// For RUSAGE_THREAD.
#define _GNU_SOURCE
#include <sys/resource.h>
#endif

#include "CTwins.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct twin_records {
    EVP_CIPHER *cipher;
    EVP_CIPHER_CTX *sealing, *opening;
    bool rekeys, borrows;
    uint64_t next, newest, window;
    uint8_t key[16], salt[4];
};

static void put64(uint8_t *bytes, uint64_t value) {
    for (int i = 7; i >= 0; i--, value >>= 8) bytes[i] = (uint8_t)value;
}

static uint64_t get64(const uint8_t *bytes) {
    uint64_t value = 0;
    for (int i = 0; i < 8; i++) value = value << 8 | bytes[i];
    return value;
}

struct twin_records *twin_records_new(bool rekeys) {
    struct twin_records *r = calloc(1, sizeof *r);
    if (!r) return NULL;
    memset(r->key, 0x42, sizeof r->key);
    r->rekeys = rekeys;
    r->next = 1ull << 48;
    r->newest = (1ull << 48) - 1;
    r->cipher = EVP_CIPHER_fetch(NULL, "AES-128-GCM", NULL);
    r->sealing = EVP_CIPHER_CTX_new();
    r->opening = EVP_CIPHER_CTX_new();
    if (!r->cipher || !r->sealing || !r->opening || EVP_EncryptInit_ex2(r->sealing, r->cipher, r->key, NULL, NULL) != 1
        || EVP_DecryptInit_ex2(r->opening, r->cipher, r->key, NULL, NULL) != 1) {
        twin_records_free(r);
        return NULL;
    }
    return r;
}

struct twin_records *twin_records_share(const struct twin_records *lender, uint32_t number) {
    struct twin_records *r = malloc(sizeof *r);
    if (!r) return NULL;
    *r = *lender;
    r->rekeys = r->borrows = true;
    memcpy(r->key, &number, sizeof number);
    return r;
}

struct twin_records *twin_records_keep(uint32_t number) {
    struct twin_records *r = twin_records_new(false);
    if (!r) return NULL;
    memcpy(r->key, &number, sizeof number);
    if (EVP_EncryptInit_ex2(r->sealing, NULL, r->key, NULL, NULL) == 1
        && EVP_DecryptInit_ex2(r->opening, NULL, r->key, NULL, NULL) == 1)
        return r;
    twin_records_free(r);
    return NULL;
}

void twin_records_free(struct twin_records *r) {
    if (!r) return;
    if (r->borrows) {
        free(r);
        return;
    }
    EVP_CIPHER_CTX_free(r->sealing);
    EVP_CIPHER_CTX_free(r->opening);
    EVP_CIPHER_free(r->cipher);
    free(r);
}

// What comes before the content's cipher: additional data (RFC 5246 §6.2.3.3) and nonce (RFC 5288 §3).
static void prepare(const struct twin_records *r, const uint8_t *record, size_t size, uint8_t *additional,
                    uint8_t *nonce) {
    memcpy(additional, record + 3, 8);
    memcpy(additional + 8, record, 3);
    additional[11] = (uint8_t)(size >> 8);
    additional[12] = (uint8_t)size;
    memcpy(nonce, r->salt, 4);
    memcpy(nonce + 4, record + 13, 8);
}

static bool seal(struct twin_records *r, const uint8_t *content, size_t size, uint8_t *record) {
    uint8_t additional[13], nonce[12];
    int length;
    record[0] = 23;
    record[1] = 0xFE;
    record[2] = 0xFD;
    put64(record + 3, r->next);
    record[11] = (uint8_t)((size + 24) >> 8);
    record[12] = (uint8_t)(size + 24);
    put64(record + 13, r->next++);
    prepare(r, record, size, additional, nonce);
    return EVP_EncryptInit_ex2(r->sealing, NULL, r->rekeys ? r->key : NULL, nonce, NULL) == 1
        && EVP_EncryptUpdate(r->sealing, NULL, &length, additional, 13) == 1
        && EVP_EncryptUpdate(r->sealing, record + 21, &length, content, (int)size) == 1
        && EVP_EncryptFinal_ex(r->sealing, record + 21 + size, &length) == 1
        && EVP_CIPHER_CTX_ctrl(r->sealing, EVP_CTRL_AEAD_GET_TAG, 16, record + 21 + size) == 1;
}

size_t twin_seal(struct twin_records *r, const uint8_t *content, size_t size, size_t count, uint8_t *out,
                 size_t stride) {
    size_t done = 0;
    for (size_t i = 0; i < count; i++) done += seal(r, content, size, out + i * stride);
    return done;
}

static bool open_record(struct twin_records *r, const uint8_t *record, size_t available, uint8_t *out) {
    uint8_t additional[13], nonce[12];
    int length;
    if (available < TWIN_RECORD_OVERHEAD || record[0] != 23 || record[1] != 0xFE || record[2] != 0xFD) return false;
    size_t size = (size_t)record[11] << 8 | record[12];
    if (size < 24 || size + 13 > available) return false;
    size -= 24;
    uint64_t number = get64(record + 3);
    if (number <= r->newest && (r->newest - number >= 64 || r->window >> (r->newest - number) & 1)) return false;
    prepare(r, record, size, additional, nonce);
    if (EVP_DecryptInit_ex2(r->opening, NULL, r->rekeys ? r->key : NULL, nonce, NULL) != 1
        || EVP_DecryptUpdate(r->opening, NULL, &length, additional, 13) != 1
        || EVP_DecryptUpdate(r->opening, out, &length, record + 21, (int)size) != 1
        || EVP_CIPHER_CTX_ctrl(r->opening, EVP_CTRL_AEAD_SET_TAG, 16, (void *)(record + 21 + size)) != 1
        || EVP_DecryptFinal_ex(r->opening, out + size, &length) != 1)
        return false;
    if (number > r->newest) {
        uint64_t steps = number - r->newest;
        r->window = steps < 64 ? r->window << steps | 1 : 1;
        r->newest = number;
    } else {
        r->window |= 1ull << (r->newest - number);
    }
    return true;
}

size_t twin_open(struct twin_records *r, const uint8_t *in, size_t size, size_t count, size_t stride, uint8_t *out) {
    size_t done = 0;
    for (size_t i = 0; i < count; i++) done += open_record(r, in + i * stride, size + TWIN_RECORD_OVERHEAD, out);
    return done;
}

uint64_t twin_cpu_time(void) {
    struct timespec time;
    if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time) != 0) return 0;
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

uint64_t twin_waits(void) {
#ifdef __linux__
    struct rusage usage;
    return getrusage(RUSAGE_THREAD, &usage) == 0 ? (uint64_t)usage.ru_nvcsw : 0;
#else
    return 0;
#endif
}
