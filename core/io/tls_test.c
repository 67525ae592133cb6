/* tls_test.c - TLS connections: handshake, data both ways whole and dribbled, client certificates, refusals, reload.
 *
 * Certificates are made here; the peer is OpenSSL's client on the other end of a pair, turned by hand with the worker. */
#include "conn.h"
#include "conn_int.h"
#include "core_rows.h"
#include "echo.h"
#include "tls.h"

#include <mqgate/obs.h>

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static struct mqg_worker *worker;
static const struct conn_source source = {.name = "echos", .ops = &echo_ops, .tls = true};
static char folder[] = "/tmp/mqgate-tls-XXXXXX";

/* ---- certificates ------------------------------------------------------------------------------------------------------- */

static EVP_PKEY *ca_key;
static X509 *ca_cert;

static const char *path_of(const char *name)
{
    static char paths[8][128];
    static int at;
    char *path = paths[at++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static void write_pem(const char *name, X509 *cert, EVP_PKEY *key)
{
    FILE *f = fopen(path_of(name), "w");
    assert_non_null(f);
    if (cert != NULL)
        assert_int_equal(PEM_write_X509(f, cert), 1);
    if (key != NULL)
        assert_int_equal(PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL), 1);
    fclose(f);
}

static X509 *cert_make(const char *cn, EVP_PKEY *key, X509 *issuer, EVP_PKEY *issuer_key)
{
    static long serial = 1;
    X509 *cert = X509_new();
    X509_set_version(cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), serial++);
    X509_gmtime_adj(X509_getm_notBefore(cert), -60);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_set_pubkey(cert, key);
    X509_NAME *name = X509_get_subject_name(cert);
    X509_NAME_add_entry_by_txt(name, "O", MBSTRING_ASC, (const unsigned char *)"mqgate tests", -1, -1, 0);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)cn, -1, -1, 0);
    X509_set_issuer_name(cert, issuer != NULL ? X509_get_subject_name(issuer) : name);
    X509_EXTENSION *ca = X509V3_EXT_conf_nid(NULL, NULL, NID_basic_constraints,
                                             issuer == NULL ? "CA:TRUE" : "CA:FALSE");
    X509_add_ext(cert, ca, -1);
    X509_EXTENSION_free(ca);
    assert_true(X509_sign(cert, issuer_key, EVP_sha256()) > 0);
    return cert;
}

static void pair_make(const char *cn, const char *cert_name, const char *key_name)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = cert_make(cn, key, ca_cert, ca_key);
    write_pem(cert_name, cert, NULL);
    write_pem(key_name, NULL, key);
    X509_free(cert);
    EVP_PKEY_free(key);
}

static int certs_setup(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(folder));
    ca_key = EVP_EC_gen("P-256");
    ca_cert = cert_make("test ca", ca_key, NULL, ca_key);
    write_pem("ca.pem", ca_cert, NULL);
    pair_make("server one", "one.pem", "one.key");
    pair_make("server two", "two.pem", "two.key");
    pair_make("a client", "client.pem", "client.key");
    mqg_log_level_set(MQG_LOG_ERROR);
    return 0;
}

static int certs_teardown(void **state)
{
    (void)state;
    static const char *const names[] = {"ca.pem",  "one.pem",    "one.key",   "two.pem",
                                        "two.key", "client.pem", "client.key"};
    for (size_t i = 0; i < MQG_COUNTOF(names); i++)
        unlink(path_of(names[i]));
    rmdir(folder);
    X509_free(ca_cert);
    EVP_PKEY_free(ca_key);
    io_tls_unload();
    return 0;
}

/* ---- both ends ------------------------------------------------------------------------------------------------------------ */

static enum mqg_err tls_load(const char *cert, const char *key, const char *verify, struct mqg_error *e)
{
    char set[256];
    struct mqg_conf *conf = mqg_conf_new();
    mqg_conf_schema(conf, mqg_core_rows);
    const char *const pairs[][2] = {{"cert", cert}, {"key", key}, {"ca", verify != NULL ? "ca.pem" : NULL}};
    for (size_t i = 0; i < MQG_COUNTOF(pairs); i++) {
        if (pairs[i][1] == NULL)
            continue;
        snprintf(set, sizeof set, "tls.%s=%s", pairs[i][0], path_of(pairs[i][1]));
        assert_int_equal(mqg_conf_set(conf, set, e), MQG_OK);
    }
    snprintf(set, sizeof set, "tls.verify=%s", verify != NULL ? verify : "none");
    assert_int_equal(mqg_conf_set(conf, set, e), MQG_OK);
    enum mqg_err err = io_tls_load(conf, e);
    mqg_conf_free(&conf);
    return err;
}

static int worker_setup(void **state)
{
    conn_configure(&(struct conn_settings){.login_timeout_ms = 600000, .dribble = *state != NULL});
    worker = mqg_worker_manual();
    return 0;
}

static int worker_teardown(void **state)
{
    (void)state;
    mqg_workers_fini();
    assert_int_equal(conn_count(), 0);
    assert_int_equal(echo_inits, echo_finis);
    return 0;
}

struct peer {
    SSL_CTX *ctx;
    SSL *ssl;
    int fd;
};

static struct peer peer_open_on(const struct conn_source *from, const char *cert, const char *key,
                                int max_version)
{
    struct peer p = {.ctx = SSL_CTX_new(TLS_client_method())};
    int fds[2];
    if (cert != NULL) {
        assert_int_equal(SSL_CTX_use_certificate_file(p.ctx, path_of(cert), SSL_FILETYPE_PEM), 1);
        assert_int_equal(SSL_CTX_use_PrivateKey_file(p.ctx, path_of(key), SSL_FILETYPE_PEM), 1);
    }
    if (max_version != 0) {
        SSL_CTX_set_security_level(p.ctx, 0);
        SSL_CTX_set_min_proto_version(p.ctx, max_version);
        SSL_CTX_set_max_proto_version(p.ctx, max_version);
    }
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    assert_true(conn_adopt(worker, fds[1], from, NULL));
    p.fd = fds[0];
    p.ssl = SSL_new(p.ctx);
    SSL_set_fd(p.ssl, p.fd);
    SSL_set_connect_state(p.ssl);
    return p;
}

static struct peer peer_open(const char *cert, const char *key, int max_version)
{
    return peer_open_on(&source, cert, key, max_version);
}

static void peer_close(struct peer *p)
{
    SSL_free(p->ssl);
    SSL_CTX_free(p->ctx);
    close(p->fd);
    for (int i = 0; i < 20; i++)
        mqg_worker_turn(worker, 0);
}

/* One more round of an operation that would block; false when it failed for good. */
static bool peer_again(const struct peer *p, int rc)
{
    int why = SSL_get_error(p->ssl, rc);
    mqg_worker_turn(worker, 0);
    return why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE;
}

static void peer_write(struct peer *p, const void *ptr, size_t n)
{
    int rc = 0;
    for (int i = 0; i < 1000000 && (rc = SSL_write(p->ssl, ptr, (int)n)) <= 0; i++)
        assert_true(peer_again(p, rc));
    assert_int_equal(rc, n);
}

/* Reads n bytes; fewer when the stream ends or fails. */
static size_t peer_read(struct peer *p, char *out, size_t n)
{
    size_t got = 0;
    for (int i = 0; i < 3000000 && got < n; i++) {
        int rc = SSL_read(p->ssl, out + got, (int)(n - got));
        if (rc > 0)
            got += (size_t)rc;
        else if (!peer_again(p, rc))
            break;
    }
    return got;
}

static void peer_expect(struct peer *p, const char *text)
{
    char got[256] = "";
    assert_int_equal(peer_read(p, got, strlen(text)), strlen(text));
    assert_string_equal(got, text);
}

static struct mqg_conn *found;

static bool find_visit(struct mqg_conn *c, void *arg)
{
    (void)arg;
    found = c;
    return false;
}

static const struct mqg_conn_info *the_info(void)
{
    found = NULL;
    mqg_conn_each(worker, find_visit, NULL);
    assert_non_null(found);
    return mqg_conn_info(found);
}

/* ---- tests --------------------------------------------------------------------------------------------------------------------- */

static void test_lines_over_tls(void **state)
{
    (void)state;
    struct mqg_error e;
    assert_int_equal(tls_load("one.pem", "one.key", NULL, &e), MQG_OK);
    struct peer p = peer_open(NULL, NULL, 0);
    peer_write(&p, "one\ntw", 6);
    peer_write(&p, "o\n", 2);
    peer_expect(&p, "one\ntwo\n");
    assert_true(the_info()->flags & MQG_CONN_TLS);
    assert_string_equal(the_info()->tls_protocol, "TLSv1.3");
    assert_string_equal(the_info()->cert_subject_cn, "");
    peer_write(&p, "quit\n", 5);
    peer_expect(&p, "bye\n");
    char c;
    assert_int_equal(peer_read(&p, &c, 1), 0);
    assert_int_equal(SSL_get_shutdown(p.ssl) & SSL_RECEIVED_SHUTDOWN,
                     SSL_RECEIVED_SHUTDOWN); /* a proper end */
    peer_close(&p);
}

static void test_much_data_both_ways(void **state)
{
    struct mqg_error e;
    enum { ALL = 100 * 16000 };
    size_t n = *state != NULL ? ALL / 100 : ALL;
    static char out[ALL], in[ALL];
    assert_int_equal(tls_load("one.pem", "one.key", NULL, &e), MQG_OK);
    struct peer p = peer_open(NULL, NULL, 0);
    peer_write(&p, "login\n", 6);
    for (size_t i = 0; i < ALL; i++)
        out[i] = i % 16000 == 15999 ? '\n' : (char)('a' + i % 23);
    for (size_t at = 0; at < n; at += 16000) {
        peer_write(&p, out + at, 16000);
        assert_int_equal(peer_read(&p, in + at, 16000), 16000);
    }
    assert_memory_equal(in, out, n);
    if (*state == NULL) { /* a record for each byte would take long */
        peer_write(&p, "flood 500\n", 10);
        assert_int_equal(peer_read(&p, in, 512000), 512000);
        peer_write(&p, "big\n", 4);
        assert_int_equal(peer_read(&p, in, 1 << 20), 1 << 20);
    }
    peer_close(&p);
}

static void test_client_certificate_is_seen(void **state)
{
    (void)state;
    struct mqg_error e;
    assert_int_equal(tls_load("one.pem", "one.key", "required", &e), MQG_OK);
    struct peer p = peer_open("client.pem", "client.key", 0);
    peer_write(&p, "x\n", 2);
    peer_expect(&p, "x\n");
    assert_string_equal(the_info()->cert_subject_cn, "a client");
    assert_string_equal(the_info()->cert_subject, "CN=a client,O=mqgate tests");
    peer_close(&p);
    p = peer_open(NULL, NULL, 0); /* without one */
    int inits = echo_inits;
    char c;
    SSL_write(p.ssl, "x\n", 2);
    assert_int_equal(peer_read(&p, &c, 1), 0);
    assert_int_equal(echo_inits, inits);
    peer_close(&p);
    assert_int_equal(tls_load("one.pem", "one.key", "optional", &e), MQG_OK);
    p = peer_open(NULL, NULL, 0);
    peer_write(&p, "x\n", 2);
    peer_expect(&p, "x\n");
    peer_close(&p);
}

static void test_old_versions_and_plain_text_are_refused(void **state)
{
    (void)state;
    struct mqg_error e;
    char c;
    int inits = echo_inits;
    assert_int_equal(tls_load("one.pem", "one.key", NULL, &e), MQG_OK);
    struct peer p = peer_open(NULL, NULL, TLS1_1_VERSION);
    assert_int_equal(peer_read(&p, &c, 1), 0);
    peer_close(&p);
    p = peer_open(NULL, NULL, 0);
    assert_int_equal(send(p.fd, "AMQP\0\0\x09\x01hello", 13, 0), 13);
    for (int i = 0; i < 200; i++)
        mqg_worker_turn(worker, 0);
    assert_int_equal(conn_count(), 0);
    peer_close(&p);
    assert_int_equal(echo_inits, inits);
    p = peer_open(NULL, NULL, TLS1_2_VERSION);
    peer_write(&p, "x\n", 2);
    peer_expect(&p, "x\n");
    peer_close(&p);
}

static void peer_server_name(struct peer *p, char *out, size_t room)
{
    X509 *cert = SSL_get1_peer_certificate(p->ssl);
    assert_non_null(cert);
    X509_NAME_get_text_by_NID(X509_get_subject_name(cert), NID_commonName, out, (int)room);
    X509_free(cert);
}

static void test_a_proxy_header_before_the_handshake(void **state)
{
    (void)state;
    static const struct conn_source proxied = {.name = "echos", .ops = &echo_ops, .tls = true, .proxy = true};
    static const char header[] = "PROXY TCP4 192.0.2.7 192.0.2.8 4711 5671\r\n";
    struct mqg_error e;
    assert_int_equal(tls_load("one.pem", "one.key", NULL, &e), MQG_OK);
    struct peer p = peer_open_on(&proxied, NULL, NULL, 0);
    assert_int_equal(send(p.fd, header, sizeof header - 1, 0), sizeof header - 1);
    peer_write(&p, "x\n", 2);
    peer_expect(&p, "x\n");
    assert_string_equal(the_info()->peer_host, "192.0.2.7");
    assert_int_equal(the_info()->flags, MQG_CONN_TLS | MQG_CONN_PROXIED);
    peer_close(&p);
}

static void test_reload_changes_new_connections_only(void **state)
{
    (void)state;
    struct mqg_error e;
    char name[64];
    assert_int_equal(tls_load("one.pem", "one.key", NULL, &e), MQG_OK);
    struct peer old = peer_open(NULL, NULL, 0);
    peer_write(&old, "a\n", 2);
    peer_expect(&old, "a\n");
    assert_int_equal(tls_load("two.pem", "two.key", NULL, &e), MQG_OK);
    struct peer fresh = peer_open(NULL, NULL, 0);
    peer_write(&fresh, "b\n", 2);
    peer_expect(&fresh, "b\n");
    peer_server_name(&fresh, name, sizeof name);
    assert_string_equal(name, "server two");
    peer_server_name(&old, name, sizeof name);
    assert_string_equal(name, "server one");
    peer_write(&old, "c\n", 2);
    peer_expect(&old, "c\n");
    peer_close(&old);
    peer_close(&fresh);
}

static void test_bad_settings_are_refused_and_keep_the_old(void **state)
{
    (void)state;
    struct mqg_error e;
    assert_int_equal(tls_load("one.pem", "one.key", NULL, &e), MQG_OK);
    assert_int_equal(tls_load("one.pem", "two.key", NULL, &e), MQG_INVALID);
    assert_non_null(strstr(e.text, "tls.key="));
    assert_int_equal(tls_load("none.pem", "two.key", NULL, &e), MQG_INVALID);
    assert_non_null(strstr(e.text, "tls.cert="));
    assert_int_equal(tls_load("one.pem", NULL, NULL, &e), MQG_INVALID);
    assert_non_null(strstr(e.text, "--set: tls.cert needs tls.key"));
    assert_int_equal(tls_load(NULL, "one.key", NULL, &e), MQG_INVALID);
    assert_true(io_tls_ready());
    assert_int_equal(tls_load(NULL, NULL, NULL, &e), MQG_OK);
    assert_false(io_tls_ready());
}

static int dribble_mark;

#define TLS_TEST(fn)                                                      \
    cmocka_unit_test_setup_teardown(fn, worker_setup, worker_teardown),   \
    {                                                                     \
#fn "_dribbled", fn, worker_setup, worker_teardown, &dribble_mark \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        TLS_TEST(test_lines_over_tls),
        TLS_TEST(test_much_data_both_ways),
        TLS_TEST(test_client_certificate_is_seen),
        TLS_TEST(test_old_versions_and_plain_text_are_refused),
        TLS_TEST(test_a_proxy_header_before_the_handshake),
        TLS_TEST(test_reload_changes_new_connections_only),
        TLS_TEST(test_bad_settings_are_refused_and_keep_the_old),
    };
    return cmocka_run_group_tests(tests, certs_setup, certs_teardown);
}
