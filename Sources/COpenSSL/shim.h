// OpenSSL for Swift: the headers, and static inline twins of the macros that Swift cannot import.
// Each twin is named COpenSSL_ and the macro's name. Types that became opaque in OpenSSL 4.0
// (ASN1_STRING, ASN1_TIME, GENERAL_NAME's members) are touched here and nowhere else.

#ifndef SWIFT_DTLS_COPENSSL_SHIM_H
#define SWIFT_DTLS_COPENSSL_SHIM_H

#include <openssl/opensslv.h>

#if OPENSSL_VERSION_MAJOR < 3
#error "swift-dtls needs OpenSSL 3.0 or newer"
#endif

#include <openssl/bio.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/ocsp.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>
#include <openssl/provider.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/ssl.h>
#include <openssl/store.h>
#include <openssl/ui.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdint.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

// MARK: SSL_CTX

static inline int COpenSSL_SSL_CTX_set_min_proto_version(SSL_CTX *ctx, int version) {
    return (int)SSL_CTX_set_min_proto_version(ctx, version);
}

static inline int COpenSSL_SSL_CTX_set_max_proto_version(SSL_CTX *ctx, int version) {
    return (int)SSL_CTX_set_max_proto_version(ctx, version);
}

static inline void COpenSSL_SSL_CTX_set_mode(SSL_CTX *ctx, long mode) { SSL_CTX_set_mode(ctx, mode); }

static inline void COpenSSL_SSL_CTX_set_session_cache_mode(SSL_CTX *ctx, long mode) {
    SSL_CTX_set_session_cache_mode(ctx, mode);
}

static inline void COpenSSL_SSL_CTX_set_max_cert_list(SSL_CTX *ctx, long bytes) {
    SSL_CTX_set_max_cert_list(ctx, bytes);
}

static inline int COpenSSL_SSL_CTX_add1_chain_cert(SSL_CTX *ctx, X509 *certificate) {
    return (int)SSL_CTX_add1_chain_cert(ctx, certificate);
}

static inline int COpenSSL_SSL_CTX_set1_groups_list(SSL_CTX *ctx, const char *list) {
    return (int)SSL_CTX_set1_groups_list(ctx, list);
}

static inline int COpenSSL_SSL_CTX_set1_sigalgs_list(SSL_CTX *ctx, const char *list) {
    return (int)SSL_CTX_set1_sigalgs_list(ctx, list);
}

static inline int COpenSSL_SSL_CTX_set1_client_sigalgs_list(SSL_CTX *ctx, const char *list) {
    return (int)SSL_CTX_set1_client_sigalgs_list(ctx, list);
}

// Sets what a ticket's HMAC is keyed with; the digest is SHA-256.
static inline int COpenSSL_set_ticket_hmac(EVP_MAC_CTX *mac, const unsigned char *key, size_t count) {
    OSSL_PARAM parameters[3];
    parameters[0] = OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, (void *)key, count);
    parameters[1] = OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)"SHA256", 0);
    parameters[2] = OSSL_PARAM_construct_end();
    return EVP_MAC_CTX_set_params(mac, parameters);
}

// Gives a keyed context of AES-GCM its next nonce, of the length that it was made for, and for opening the tag to
// compare with, in one call. It is what EVP_CIPHER_CTX_ctrl sends for EVP_CTRL_GCM_SET_IV_FIXED with -1, "all of it".
static inline int COpenSSL_begin_gcm(
    EVP_CIPHER_CTX *context, const unsigned char *nonce, const unsigned char *tag, size_t tag_count
) {
    OSSL_PARAM parameters[3];
    OSSL_PARAM *next = parameters;
    // OpenSSL only reads them, but does not say so in the type.
    *next++ = OSSL_PARAM_construct_octet_string(OSSL_CIPHER_PARAM_AEAD_TLS1_IV_FIXED, (void *)nonce, (size_t)-1);
    if (tag) *next++ = OSSL_PARAM_construct_octet_string(OSSL_CIPHER_PARAM_AEAD_TAG, (void *)tag, tag_count);
    *next = OSSL_PARAM_construct_end();
    return EVP_CIPHER_CTX_set_params(context, parameters);
}

static const uint64_t COpenSSL_SSL_OP_NO_RENEGOTIATION = SSL_OP_NO_RENEGOTIATION;
static const uint64_t COpenSSL_SSL_OP_NO_COMPRESSION = SSL_OP_NO_COMPRESSION;
static const uint64_t COpenSSL_SSL_OP_CIPHER_SERVER_PREFERENCE = SSL_OP_CIPHER_SERVER_PREFERENCE;
static const uint64_t COpenSSL_SSL_OP_NO_ENCRYPT_THEN_MAC = SSL_OP_NO_ENCRYPT_THEN_MAC;
static const uint64_t COpenSSL_SSL_OP_NO_TICKET = SSL_OP_NO_TICKET;

// MARK: SSL

static inline long COpenSSL_SSL_set_mtu(SSL *ssl, long mtu) { return SSL_set_mtu(ssl, mtu); }

static inline int COpenSSL_DTLSv1_get_timeout(SSL *ssl, struct timeval *remaining) {
    return (int)DTLSv1_get_timeout(ssl, remaining);
}

static inline int COpenSSL_DTLSv1_handle_timeout(SSL *ssl) { return (int)DTLSv1_handle_timeout(ssl); }

static inline int COpenSSL_SSL_set_tlsext_host_name(SSL *ssl, const char *name) {
    return (int)SSL_set_tlsext_host_name(ssl, name);
}

static inline int COpenSSL_SSL_get_negotiated_group(SSL *ssl) { return (int)SSL_get_negotiated_group(ssl); }

static inline const char *COpenSSL_SSL_group_to_name(SSL *ssl, int group) { return SSL_group_to_name(ssl, group); }

// The algorithm with which this side (or, with `peer`, the other one) has signed the handshake: the NIDs of the key's
// kind and of the digest. 0 when it has signed nothing.
static inline int COpenSSL_SSL_get_signature(SSL *ssl, int peer, int *kind, int *digest) {
    if (peer) return SSL_get_peer_signature_type_nid(ssl, kind) == 1 && SSL_get_peer_signature_nid(ssl, digest) == 1;
    return SSL_get_signature_type_nid(ssl, kind) == 1 && SSL_get_signature_nid(ssl, digest) == 1;
}

static inline int COpenSSL_SSL_get_extms_support(SSL *ssl) { return (int)SSL_get_extms_support(ssl); }

// The pending cipher's ID (two bytes on the wire) while a handshake runs; 0 when there is none.
static inline uint16_t COpenSSL_SSL_pending_cipher_id(const SSL *ssl) {
    const SSL_CIPHER *cipher = SSL_get_pending_cipher(ssl);
    return cipher == NULL ? 0 : SSL_CIPHER_get_protocol_id(cipher);
}

static inline int COpenSSL_SSL_set_retry_verify(SSL *ssl) { return SSL_set_retry_verify(ssl); }

static inline int COpenSSL_SSL_add1_chain_cert(SSL *ssl, X509 *certificate) {
    return (int)SSL_add1_chain_cert(ssl, certificate);
}

static inline int COpenSSL_SSL_clear_chain_certs(SSL *ssl) { return (int)SSL_clear_chain_certs(ssl); }

static inline uint16_t COpenSSL_SSL_selected_srtp_profile(SSL *ssl) {
    const SRTP_PROTECTION_PROFILE *profile = SSL_get_selected_srtp_profile(ssl);
    return profile == NULL ? 0 : (uint16_t)profile->id;
}

// MARK: ex_data

static inline int COpenSSL_SSL_get_ex_new_index(void) { return SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL); }

// MARK: BIO

static inline void COpenSSL_BIO_set_retry_read(BIO *bio) { BIO_set_retry_read(bio); }
static inline void COpenSSL_BIO_clear_retry_flags(BIO *bio) { BIO_clear_retry_flags(bio); }

static inline long COpenSSL_BIO_get_mem_data(BIO *bio, char **data) { return BIO_get_mem_data(bio, data); }

// MARK: Stacks of certificates

static inline int COpenSSL_sk_X509_num(const STACK_OF(X509) *chain) { return chain == NULL ? 0 : sk_X509_num(chain); }

static inline X509 *COpenSSL_sk_X509_value(const STACK_OF(X509) *chain, int index) {
    return sk_X509_value(chain, index);
}

static inline int COpenSSL_sk_SSL_CIPHER_num(const STACK_OF(SSL_CIPHER) *suites) {
    return suites == NULL ? 0 : sk_SSL_CIPHER_num(suites);
}

static inline const SSL_CIPHER *COpenSSL_sk_SSL_CIPHER_value(const STACK_OF(SSL_CIPHER) *suites, int index) {
    return sk_SSL_CIPHER_value(suites, index);
}

// MARK: Certificates

// Names of kind DNS, URI, EMAIL or IPADD in the subjectAltName extension. `visit` gets the GEN_ kind and the raw bytes.
static inline void COpenSSL_X509_each_alternative_name(
    const X509 *certificate, void *context,
    void (*visit)(void *context, int kind, const unsigned char *bytes, int count)) {
    GENERAL_NAMES *names = (GENERAL_NAMES *)X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    if (names == NULL) return;
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        int kind = 0;
        void *value = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names, i), &kind);
        // Only these kinds hold an ASN1_STRING; the others must not be read as one.
        if (value != NULL && (kind == GEN_DNS || kind == GEN_URI || kind == GEN_EMAIL || kind == GEN_IPADD)) {
            const ASN1_STRING *string = (const ASN1_STRING *)value;
            visit(context, kind, ASN1_STRING_get0_data(string), ASN1_STRING_length(string));
        }
    }
    GENERAL_NAMES_free(names);
}

static inline int64_t COpenSSL_seconds(const ASN1_TIME *time) {
    struct tm broken;
    memset(&broken, 0, sizeof broken);
    if (time == NULL || ASN1_TIME_to_tm(time, &broken) != 1) return 0;
    return (int64_t)timegm(&broken);
}

static inline int64_t COpenSSL_X509_not_before(const X509 *certificate) {
    return COpenSSL_seconds(X509_get0_notBefore(certificate));
}

static inline int64_t COpenSSL_X509_not_after(const X509 *certificate) {
    return COpenSSL_seconds(X509_get0_notAfter(certificate));
}

static const unsigned long COpenSSL_XN_FLAG_RFC2253 = XN_FLAG_RFC2253;

// The serial number as upper-case hexadecimal, in memory to be released with COpenSSL_OPENSSL_free; NULL on failure.
static inline char *COpenSSL_X509_serial_hex(const X509 *certificate) {
    BIGNUM *number = ASN1_INTEGER_to_BN(X509_get0_serialNumber((X509 *)certificate), NULL);
    if (number == NULL) return NULL;
    char *text = BN_bn2hex(number);
    BN_free(number);
    return text;
}

static inline int COpenSSL_X509_set_serial(X509 *certificate, const unsigned char *bytes, int count) {
    BIGNUM *number = BN_bin2bn(bytes, count, NULL);
    if (number == NULL) return 0;
    int ok = BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate)) != NULL;
    BN_free(number);
    return ok;
}

static inline int COpenSSL_X509_set_validity(X509 *certificate, int64_t not_before, int64_t not_after) {
    return ASN1_TIME_set(X509_getm_notBefore(certificate), (time_t)not_before) != NULL
        && ASN1_TIME_set(X509_getm_notAfter(certificate), (time_t)not_after) != NULL;
}

static inline int COpenSSL_X509_add_extension(X509 *certificate, X509 *issuer, int nid, const char *value) {
    X509V3_CTX context;
    X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
    X509V3_set_ctx_nodb(&context);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    if (extension == NULL) return 0;
    int ok = X509_add_ext(certificate, extension, -1);
    X509_EXTENSION_free(extension);
    return ok;
}

static inline int COpenSSL_X509_set_common_name(X509 *certificate, const unsigned char *name, int count) {
    X509_NAME *subject = X509_NAME_new();
    if (subject == NULL) return 0;
    int ok = X509_NAME_add_entry_by_NID(subject, NID_commonName, MBSTRING_UTF8, (unsigned char *)name, count, -1, 0)
        && X509_set_subject_name(certificate, subject);
    X509_NAME_free(subject);
    return ok;
}

static inline int COpenSSL_X509_set_issuer_from(X509 *certificate, const X509 *issuer) {
    return X509_set_issuer_name(certificate, X509_get_subject_name(issuer));
}

// MARK: Raw public keys (RFC 7250), since OpenSSL 3.2

#if OPENSSL_VERSION_PREREQ(3, 2)
enum { COpenSSL_HAS_RAW_PUBLIC_KEYS = 1 };

// Which kinds of certificate the client and the server may present: with `x509` zero, raw public keys alone.
static inline int COpenSSL_SSL_CTX_use_raw_public_keys(SSL_CTX *ctx, int x509) {
    static const unsigned char kinds[] = {TLSEXT_cert_type_rpk, TLSEXT_cert_type_x509};
    size_t count = x509 ? 2 : 1;
    return SSL_CTX_set1_client_cert_type(ctx, kinds, count) && SSL_CTX_set1_server_cert_type(ctx, kinds, count);
}

static inline EVP_PKEY *COpenSSL_X509_STORE_CTX_get0_rpk(const X509_STORE_CTX *store) {
    return X509_STORE_CTX_get0_rpk(store);
}

static inline EVP_PKEY *COpenSSL_SSL_get0_peer_rpk(const SSL *ssl) { return SSL_get0_peer_rpk(ssl); }
#else
enum { COpenSSL_HAS_RAW_PUBLIC_KEYS = 0 };
static inline int COpenSSL_SSL_CTX_use_raw_public_keys(SSL_CTX *ctx, int x509) { return 0; }
static inline EVP_PKEY *COpenSSL_X509_STORE_CTX_get0_rpk(const X509_STORE_CTX *store) { return NULL; }
static inline EVP_PKEY *COpenSSL_SSL_get0_peer_rpk(const SSL *ssl) { return NULL; }
#endif

// MARK: DTLS 1.3, since OpenSSL 4.1

#ifdef DTLS1_3_VERSION
enum { COpenSSL_HAS_DTLS_1_3 = 1 };
#else
enum { COpenSSL_HAS_DTLS_1_3 = 0 };
#endif

// MARK: OCSP stapling (RFC 6066 section 8)

static inline void COpenSSL_SSL_CTX_set_status_callback(SSL_CTX *ctx, int (*callback)(SSL *, void *)) {
    SSL_CTX_set_tlsext_status_cb(ctx, callback);
}

static inline int COpenSSL_SSL_request_status(SSL *ssl) {
    return (int)SSL_set_tlsext_status_type(ssl, TLSEXT_STATUSTYPE_ocsp);
}

// Whether the response is about the certificate: one of its entries has the serial number and the hash of the issuer's
// name.
static inline int COpenSSL_OCSP_names(const unsigned char *bytes, long count, X509 *certificate) {
    int found = 0;
    ASN1_OCTET_STRING *name = ASN1_OCTET_STRING_new();
    OCSP_RESPONSE *response = d2i_OCSP_RESPONSE(NULL, &bytes, count);
    OCSP_BASICRESP *basic = NULL;
    if (name == NULL || response == NULL || certificate == NULL) goto done;
    if (OCSP_response_status(response) != OCSP_RESPONSE_STATUS_SUCCESSFUL) goto done;
    basic = OCSP_response_get1_basic(response);
    if (basic == NULL) goto done;
    for (int i = 0; i < OCSP_resp_count(basic) && !found; i++) {
        const OCSP_CERTID *id = OCSP_SINGLERESP_get0_id(OCSP_resp_get0(basic, i));
        ASN1_OCTET_STRING *hash = NULL;
        ASN1_OBJECT *algorithm = NULL;
        ASN1_INTEGER *serial = NULL;
        unsigned char digest[EVP_MAX_MD_SIZE];
        unsigned int size = 0;
        if (OCSP_id_get0_info(&hash, &algorithm, NULL, &serial, (OCSP_CERTID *)id) != 1) continue;
        const EVP_MD *kind = EVP_get_digestbyobj(algorithm);
        if (kind == NULL || X509_NAME_digest(X509_get_issuer_name(certificate), kind, digest, &size) != 1) continue;
        if (ASN1_OCTET_STRING_set(name, digest, (int)size) != 1) continue;
        found = ASN1_OCTET_STRING_cmp(name, hash) == 0
            && ASN1_INTEGER_cmp(X509_get0_serialNumber(certificate), serial) == 0;
    }
done:
    ASN1_OCTET_STRING_free(name);
    OCSP_BASICRESP_free(basic);
    OCSP_RESPONSE_free(response);
    return found;
}

// Staples a copy of the response, which OpenSSL frees. 0 where it is not to be announced to the client.
static inline int COpenSSL_SSL_staple(SSL *ssl, const unsigned char *response, int count) {
#if OPENSSL_VERSION_PREREQ(3, 6)
    // OpenSSL 3.6 and later does not send what is about another certificate, or about a self-signed one, but has
    // announced it by then and leaves out a number of the handshake's messages: a DTLS client waits for that message
    // until its time is over.
    X509 *certificate = SSL_get_certificate(ssl);
    if (!COpenSSL_OCSP_names(response, count, certificate) || X509_self_signed(certificate, 0) == 1) return 0;
#endif
    unsigned char *copy = (unsigned char *)OPENSSL_memdup(response, (size_t)count);
    if (copy == NULL) return 0;
    return (int)SSL_set_tlsext_status_ocsp_resp(ssl, copy, count);
}

enum {
    COpenSSL_STATUS_GOOD = 0,
    COpenSSL_STATUS_MISSING = 1,
    COpenSSL_STATUS_INVALID = 2,
    COpenSSL_STATUS_REVOKED = 3,
    COpenSSL_STATUS_UNKNOWN = 4
};

// Whether a certificate is trusted itself, whoever has issued it.
static inline int COpenSSL_X509_STORE_holds(X509_STORE *store, X509 *certificate) {
    STACK_OF(X509) *all = X509_STORE_get1_all_certs(store);
    int found = 0;
    for (int index = 0; !found && index < sk_X509_num(all); index++) {
        found = X509_cmp(sk_X509_value(all, index), certificate) == 0;
    }
    sk_X509_pop_free(all, X509_free);
    return found;
}

// What the stapled response says of the peer's own certificate. The response must be signed by its issuer or by whom
// that has authorized, and must not be out of date by more than five minutes. Where the certificate is trusted itself
// and its issuer is not known, nobody can say whether a response is authentic: it counts as missing, as anybody might
// have left it out.
static inline int COpenSSL_SSL_stapled_status(SSL *ssl) {
    const unsigned char *bytes = NULL;
    long count = SSL_get_tlsext_status_ocsp_resp(ssl, &bytes);
    if (bytes == NULL || count <= 0) return COpenSSL_STATUS_MISSING;
    int result = COpenSSL_STATUS_INVALID;
    OCSP_RESPONSE *response = d2i_OCSP_RESPONSE(NULL, &bytes, count);
    OCSP_BASICRESP *basic = NULL;
    OCSP_CERTID *id = NULL;
    STACK_OF(X509) *chain = SSL_get0_verified_chain(ssl);
    X509_STORE *store = SSL_CTX_get_cert_store(SSL_get_SSL_CTX(ssl));
    if (response == NULL || OCSP_response_status(response) != OCSP_RESPONSE_STATUS_SUCCESSFUL) goto done;
    basic = OCSP_response_get1_basic(response);
    if (basic == NULL || chain == NULL || store == NULL || sk_X509_num(chain) < 1) goto done;
    X509 *leaf = sk_X509_value(chain, 0);
    if (sk_X509_num(chain) == 1 && X509_self_signed(leaf, 0) != 1) {
        result = COpenSSL_STATUS_MISSING;
        goto done;
    }
    // As for the chain itself: an anchor need not be a root.
    if (OCSP_basic_verify(basic, chain, store, OCSP_PARTIAL_CHAIN) != 1) {
        if (X509_self_signed(leaf, 0) != 1 && COpenSSL_X509_STORE_holds(store, leaf)) result = COpenSSL_STATUS_MISSING;
        goto done;
    }
    // A self-signed leaf that is trusted itself is its own issuer.
    X509 *issuer = sk_X509_num(chain) > 1 ? sk_X509_value(chain, 1) : leaf;
    id = OCSP_cert_to_id(NULL, leaf, issuer);
    if (id == NULL) goto done;
    int status = 0, reason = 0;
    ASN1_GENERALIZEDTIME *revoked = NULL, *this_update = NULL, *next_update = NULL;
    if (OCSP_resp_find_status(basic, id, &status, &reason, &revoked, &this_update, &next_update) != 1) goto done;
    if (OCSP_check_validity(this_update, next_update, 300, -1) != 1) goto done;
    result = status == V_OCSP_CERTSTATUS_GOOD ? COpenSSL_STATUS_GOOD
        : status == V_OCSP_CERTSTATUS_REVOKED ? COpenSSL_STATUS_REVOKED : COpenSSL_STATUS_UNKNOWN;
done:
    OCSP_CERTID_free(id);
    OCSP_BASICRESP_free(basic);
    OCSP_RESPONSE_free(response);
    return result;
}

// MARK: Keys

// HMAC (RFC 2104) of two parts, under a key that is no longer than a block of the hash. 1 on success.
static inline int COpenSSL_hmac(
    EVP_MD_CTX *context, const EVP_MD *hash, const void *key, size_t key_count, const void *first, size_t first_count,
    const void *second, size_t second_count, unsigned char *output) {
    // In words: byte by byte it takes as long as to hash does.
    uint64_t block[144 / 8] = {0};
    unsigned char inner[EVP_MAX_MD_SIZE];
    size_t block_count = (size_t)EVP_MD_get_block_size(hash);
    unsigned int inner_count = 0;
    if (block_count > sizeof block || block_count % sizeof *block != 0 || key_count > block_count) return 0;
    if (key_count > 0) memcpy(block, key, key_count);
    for (size_t i = 0; i < block_count / sizeof *block; i++) block[i] ^= UINT64_C(0x3636363636363636);
    int ok = EVP_DigestInit_ex2(context, hash, NULL) && EVP_DigestUpdate(context, block, block_count)
        && EVP_DigestUpdate(context, first, first_count) && EVP_DigestUpdate(context, second, second_count)
        && EVP_DigestFinal_ex(context, inner, &inner_count);
    for (size_t i = 0; i < block_count / sizeof *block; i++) block[i] ^= UINT64_C(0x3636363636363636 ^ 0x5c5c5c5c5c5c5c5c);
    ok = ok && EVP_DigestInit_ex2(context, hash, NULL) && EVP_DigestUpdate(context, block, block_count)
        && EVP_DigestUpdate(context, inner, inner_count) && EVP_DigestFinal_ex(context, output, NULL);
    OPENSSL_cleanse(block, sizeof block);
    OPENSSL_cleanse(inner, sizeof inner);
    return ok;
}

// TLS 1.2's pseudorandom function (RFC 5246 section 5) with a secret that is no longer than a block of the hash; `seed`
// starts with the label. 1 on success.
static inline int COpenSSL_tls1_prf(
    EVP_MD_CTX *context, const EVP_MD *hash, const void *secret, size_t secret_count, const void *seed,
    size_t seed_count, void *output, size_t output_count) {
    unsigned char a[EVP_MAX_MD_SIZE], part[EVP_MAX_MD_SIZE];
    size_t count = (size_t)EVP_MD_get_size(hash);
    // A(1), then for each part HMAC(A(i) + seed) and A(i + 1).
    int ok = COpenSSL_hmac(context, hash, secret, secret_count, seed, seed_count, NULL, 0, a);
    for (size_t done = 0; ok && done < output_count; done += count) {
        size_t wanted = output_count - done < count ? output_count - done : count;
        ok = COpenSSL_hmac(context, hash, secret, secret_count, a, count, seed, seed_count, part);
        if (ok) memcpy((unsigned char *)output + done, part, wanted);
        if (ok && done + wanted < output_count) {
            ok = COpenSSL_hmac(context, hash, secret, secret_count, a, count, NULL, 0, part);
            if (ok) memcpy(a, part, count);
        }
    }
    OPENSSL_cleanse(a, sizeof a);
    OPENSSL_cleanse(part, sizeof part);
    return ok;
}

static inline EVP_PKEY *COpenSSL_EVP_EC_gen(const char *curve) { return EVP_EC_gen(curve); }
static inline EVP_PKEY *COpenSSL_EVP_RSA_gen(unsigned int bits) { return EVP_RSA_gen(bits); }
static inline EVP_PKEY *COpenSSL_EVP_ED25519_gen(void) { return EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"); }

static inline void COpenSSL_OPENSSL_free(void *memory) { OPENSSL_free(memory); }

#endif
