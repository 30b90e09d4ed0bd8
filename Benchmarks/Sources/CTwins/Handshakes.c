#include "CTwins.h"

#include <openssl/bio.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>

// Datagrams on their way to one side.
enum { WAITING = 8, LARGEST = 2048 };

struct link {
    size_t first, count, sizes[WAITING];
    uint8_t datagrams[WAITING][LARGEST];
};

struct side {
    struct link *incoming, *outgoing;
};

struct twin_handshakes {
    SSL_CTX *client, *server;
    BIO_METHOD *method;
    struct link to_client, to_server;
    struct side client_side, server_side;
};

static int write_datagram(BIO *bio, const char *bytes, int count) {
    struct link *link = ((struct side *)BIO_get_data(bio))->outgoing;
    BIO_clear_retry_flags(bio);
    if (link->count == WAITING || count < 0 || count > LARGEST) return count;
    size_t index = (link->first + link->count++) % WAITING;
    memcpy(link->datagrams[index], bytes, (size_t)count);
    link->sizes[index] = (size_t)count;
    return count;
}

static int read_datagram(BIO *bio, char *bytes, int count) {
    struct link *link = ((struct side *)BIO_get_data(bio))->incoming;
    BIO_clear_retry_flags(bio);
    if (link->count == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    size_t size = link->sizes[link->first];
    if (size > (size_t)count) size = (size_t)count;
    memcpy(bytes, link->datagrams[link->first], size);
    link->first = (link->first + 1) % WAITING;
    link->count--;
    return (int)size;
}

static long control(BIO *bio, int command, long number, void *pointer) {
    (void)bio;
    (void)number;
    (void)pointer;
    if (command == BIO_CTRL_FLUSH) return 1;
    return command == BIO_CTRL_DGRAM_QUERY_MTU ? 1400 : 0;
}

static const unsigned char key[16] = "a key for tests";

static unsigned server_key(SSL *ssl, const char *identity, unsigned char *out, unsigned maximum) {
    (void)ssl;
    if (strcmp(identity, "bench") != 0 || maximum < sizeof key) return 0;
    memcpy(out, key, sizeof key);
    return sizeof key;
}

static unsigned client_key(SSL *ssl, const char *hint, char *identity, unsigned longest, unsigned char *out,
                           unsigned maximum) {
    (void)ssl;
    (void)hint;
    if (maximum < sizeof key || longest < 6) return 0;
    strcpy(identity, "bench");
    memcpy(out, key, sizeof key);
    return sizeof key;
}

static SSL_CTX *context(const SSL_METHOD *method, const char *suite) {
    SSL_CTX *context = SSL_CTX_new(method);
    if (!context) return NULL;
    SSL_CTX_set_min_proto_version(context, DTLS1_2_VERSION);
    SSL_CTX_set_options(context, SSL_OP_NO_QUERY_MTU | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    if (SSL_CTX_set_cipher_list(context, suite) != 1) {
        SSL_CTX_free(context);
        return NULL;
    }
    return context;
}

static struct twin_handshakes *make(SSL_CTX *client, SSL_CTX *server) {
    struct twin_handshakes *h = calloc(1, sizeof *h);
    if (!h) {
        SSL_CTX_free(client);
        SSL_CTX_free(server);
        return NULL;
    }
    h->client = client;
    h->server = server;
    h->method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "link");
    if (!h->client || !h->server || !h->method) {
        twin_handshakes_free(h);
        return NULL;
    }
    BIO_meth_set_write(h->method, write_datagram);
    BIO_meth_set_read(h->method, read_datagram);
    BIO_meth_set_ctrl(h->method, control);
    SSL_CTX_set_psk_client_callback(h->client, client_key);
    SSL_CTX_set_psk_server_callback(h->server, server_key);
    h->client_side = (struct side){&h->to_client, &h->to_server};
    h->server_side = (struct side){&h->to_server, &h->to_client};
    return h;
}

struct twin_handshakes *twin_handshakes_new(const char *suite) {
    return make(context(DTLS_client_method(), suite), context(DTLS_server_method(), suite));
}

struct twin_handshakes *twin_handshakes_share(const struct twin_handshakes *h) {
    SSL_CTX_up_ref(h->client);
    SSL_CTX_up_ref(h->server);
    return make(h->client, h->server);
}

void twin_handshakes_free(struct twin_handshakes *h) {
    if (!h) return;
    SSL_CTX_free(h->client);
    SSL_CTX_free(h->server);
    BIO_meth_free(h->method);
    free(h);
}

static SSL *new_side(struct twin_handshakes *h, SSL_CTX *context, struct side *side) {
    SSL *ssl = SSL_new(context);
    BIO *bio = BIO_new(h->method);
    if (!ssl || !bio) {
        SSL_free(ssl);
        BIO_free(bio);
        return NULL;
    }
    BIO_set_data(bio, side);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl, bio, bio);
    SSL_set_mtu(ssl, 1400);
    return ssl;
}

size_t twin_shake_hands(struct twin_handshakes *h, size_t count) {
    size_t done = 0;
    for (size_t i = 0; i < count; i++) {
        h->to_client.count = h->to_server.count = 0;
        SSL *client = new_side(h, h->client, &h->client_side), *server = new_side(h, h->server, &h->server_side);
        if (client && server) {
            SSL_set_connect_state(client);
            SSL_set_accept_state(server);
            int client_result = 0, server_result = 0;
            for (int step = 0; step < 8 && (client_result != 1 || server_result != 1); step++) {
                if (client_result != 1) client_result = SSL_do_handshake(client);
                if (server_result != 1) server_result = SSL_do_handshake(server);
            }
            done += client_result == 1 && server_result == 1;
        }
        SSL_free(client);
        SSL_free(server);
    }
    return done;
}
