/* scram_test.c - SCRAM: the example of RFC 7677, its like for SHA-512, whole logins, and messages that are none. */
#include "fake.h"

#include <openssl/evp.h>

#define LIT(text) MQG_SLICE_LIT(text)

/* Section 3 of RFC 7677: name "user", password "pencil"; the second row was computed apart with the same inputs. */
#define CLIENT_NONCE "rOprNGfwEbeRWgbNEkqO"
#define SERVER_NONCE "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
static const struct {
    enum mqg_scram_hash hash;
    const char *proof, *signature;
} vectors[] = {
    {MQG_SCRAM_SHA256,
     "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="},
    {MQG_SCRAM_SHA512,
     "gMGXRcevScNtxZ6/8lQYpGtnsNAc3mGcmNomv+xnoOMw+3R2xNJdMNnzMlTN8PPC6wdp6dybEmDYXYTxwnYPJQ==",
     "v=ZQnYEgWQMFmmsM8aQMF0nDDCy/AgCzkwk8CmMZYcMg0vSVlKDanekLtifDSeVGT4+5ZxXnJq199RVG2rR7N7Zw=="},
};

static void salted(enum mqg_scram_hash hash, const char *password, struct mqg_slice salt, uint32_t iterations,
                   uint8_t out[AUTH_DIGEST_MAX_BYTES])
{
    const EVP_MD *md = hash == MQG_SCRAM_SHA512 ? EVP_sha512() : EVP_sha256();
    assert_int_equal(PKCS5_PBKDF2_HMAC(password, (int)strlen(password), salt.ptr, (int)salt.len,
                                       (int)iterations, md, (int)auth_scram_bytes(hash), out),
                     1);
}

static void put_user(const char *name, const char *password)
{
    struct mqg_slice p = mqg_slice_str(password);
    uint64_t ticket;
    struct mqg_error e;
    assert_int_equal(mqg_user_put(mqg_slice_str(name), &p, NULL, LIT(""), 0, &ticket, &e), MQG_OK);
}

/* The user of the RFC's example, with the example's salt for both mechanisms. */
static void put_example(void)
{
    uint8_t salt[16], key[AUTH_DIGEST_MAX_BYTES];
    uint64_t ticket;
    struct mqg_error e;
    put_user("user", "other");
    assert_int_equal(auth_base64(LIT("W22ZaJ0SNY7soEsUEjb6gQ=="), salt, sizeof salt), 16);
    for (unsigned i = 0; i < MQG_SCRAM_COUNT; i++) {
        salted(i, "pencil", mqg_slice_of(salt, 16), 4096, key);
        assert_int_equal(mqg_user_scram_put(LIT("user"), i, 4096, mqg_slice_of(salt, 16),
                                            mqg_slice_of(key, auth_scram_bytes(i)), &ticket, &e),
                         MQG_OK);
    }
}

static enum mqg_err step_from(struct mqg_scram *s, bool loopback, const char *message, const char *reply,
                              struct mqg_session **out)
{
    struct mqg_conn_info from = fake_from(loopback);
    struct mqg_slice got;
    struct mqg_error e = {0};
    enum mqg_err err = mqg_scram_step(s, &from, mqg_slice_str(message), &got, out, &e);
    if (reply != NULL && !mqg_slice_eq(got, mqg_slice_str(reply)))
        fail_msg("'%s' was answered '%.*s'", message, MQG_SLICE_FMT(got));
    assert_int_equal(e.text[0] != '\0', err != MQG_OK && err != MQG_MORE);
    assert_int_equal(*out != NULL, err == MQG_OK);
    return err;
}

static void rfc_vectors(void **state)
{
    (void)state;
    put_example();
    for (size_t i = 0; i < 2 * MQG_COUNTOF(vectors); i++) {
        if (i == MQG_COUNTOF(vectors))
            fake_restart(); /* the records hold as much */
        struct mqg_session *session;
        char final[512];
        struct mqg_scram *s = auth_scram_login(vectors[i % 2].hash, LIT(SERVER_NONCE));
        snprintf(final, sizeof final, "c=biws,r=%s,p=%s", CLIENT_NONCE SERVER_NONCE, vectors[i % 2].proof);
        assert_int_equal(step_from(s, false, "n,,n=user,r=" CLIENT_NONCE,
                                   "r=" CLIENT_NONCE SERVER_NONCE ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
                                   &session),
                         MQG_MORE);
        assert_int_equal(step_from(s, false, final, vectors[i % 2].signature, &session), MQG_OK);
        assert_string_equal(session->user, "user");
        mqg_session_unref(&session);
        assert_int_equal(step_from(s, false, final, "e=other-error", &session), MQG_MALFORMED);
        mqg_scram_free(&s);
    }
}

/* ---- a client ------------------------------------------------------------------------------------------------------- */

/* What the server said first, taken apart. */
struct challenge {
    char nonce[512], salt[128];
    unsigned iterations;
    char whole[1024];
};

static enum mqg_err client_first(struct mqg_scram *s, const char *message, struct challenge *c)
{
    struct mqg_conn_info from = fake_from(false);
    struct mqg_slice got;
    struct mqg_session *session;
    struct mqg_error e;
    enum mqg_err err = mqg_scram_step(s, &from, mqg_slice_str(message), &got, &session, &e);
    if (err != MQG_MORE)
        return err;
    snprintf(c->whole, sizeof c->whole, "%.*s", MQG_SLICE_FMT(got));
    assert_int_equal(sscanf(c->whole, "r=%511[^,],s=%127[^,],i=%u", c->nonce, c->salt, &c->iterations), 3);
    return err;
}

/* The client's last message: bare is what it sent first, without the gs2 header, which is `header` in base64. */
static void client_final(enum mqg_scram_hash hash, const char *password, const char *bare, const char *header,
                         const struct challenge *c, char out[2048])
{
    uint8_t salt[64], key[64], client[64], stored[64], sign[64], text[128];
    char auth[4096];
    size_t bytes = auth_scram_bytes(hash);
    int n = auth_base64(mqg_slice_str(c->salt), salt, sizeof salt);
    assert_true(n > 0);
    salted(hash, password, mqg_slice_of(salt, (size_t)n), c->iterations, key);
    auth_scram_hmac(hash, mqg_slice_of(key, bytes), LIT("Client Key"), client);
    auth_scram_digest(hash, mqg_slice_of(client, bytes), stored);
    snprintf(auth, sizeof auth, "%s,%s,c=%s,r=%s", bare, c->whole, header, c->nonce);
    auth_scram_hmac(hash, mqg_slice_of(stored, bytes), mqg_slice_str(auth), sign);
    for (size_t i = 0; i < bytes; i++)
        client[i] ^= sign[i];
    EVP_EncodeBlock(text, client, (int)bytes);
    snprintf(out, 2048, "c=%s,r=%s,p=%s", header, c->nonce, (const char *)text);
}

static enum mqg_err login(enum mqg_scram_hash hash, const char *saslname, const char *password, bool loopback)
{
    struct mqg_scram *s = mqg_scram_new(hash);
    struct mqg_session *session = NULL;
    struct challenge c;
    char first[600], bare[512], final[2048];
    snprintf(bare, sizeof bare, "n=%s,r=abc", saslname);
    snprintf(first, sizeof first, "y,,%s", bare);
    enum mqg_err err = client_first(s, first, &c);
    if (err == MQG_MORE) {
        client_final(hash, password, bare, "eSws", &c, final);
        err = step_from(s, loopback, final, NULL, &session);
    }
    mqg_session_unref(&session);
    mqg_scram_free(&s);
    return err;
}

static void logins(void **state)
{
    (void)state;
    uint64_t ticket;
    struct mqg_error e;
    const struct mqg_slice hash = LIT("kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR");
    put_user("a,b=c", "p\xc3\xa4ss");
    assert_int_equal(mqg_user_put(LIT("imported"), NULL, &hash, LIT(""), 0, &ticket, &e), MQG_OK);
    for (unsigned i = 0; i < MQG_SCRAM_COUNT; i++) {
        assert_int_equal(login(i, "a=2Cb=3Dc", "p\xc3\xa4ss", false), MQG_OK);
        assert_int_equal(login(i, "a=2Cb=3Dc", "pass", false), MQG_UNAUTHENTICATED);
        assert_int_equal(login(i, "nobody", "p\xc3\xa4ss", false), MQG_UNAUTHENTICATED);
        assert_int_equal(login(i, "imported", "test12", false), MQG_UNAUTHENTICATED);
        assert_int_equal(login(i, "guest", "guest", false), MQG_UNAUTHENTICATED); /* from elsewhere */
    }
}

/* A change of tags or an import of the same hash keeps the verifiers; another password changes, another hash drops them. */
static void with_the_password(void **state)
{
    (void)state;
    uint64_t ticket;
    struct mqg_error e;
    uint32_t iterations[MQG_SCRAM_COUNT];
    struct mqg_slice other = LIT("kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR");
    char text[AUTH_HASH_TEXT_BYTES];
    put_user("u", "one");
    assert_int_equal(mqg_user_tags(LIT("u"), MQG_TAG_MONITORING, &ticket, &e), MQG_OK);
    struct auth_user *u = auth_user_find(LIT("u"));
    auth_hash_print(&u->hash, text);
    auth_user_unref(&u);
    struct mqg_slice same = mqg_slice_str(text);
    assert_int_equal(mqg_user_put(LIT("u"), NULL, &same, LIT(""), 0, &ticket, &e), MQG_OK);
    assert_int_equal(login(MQG_SCRAM_SHA512, "u", "one", false), MQG_OK);
    put_user("u", "two");
    assert_int_equal(login(MQG_SCRAM_SHA256, "u", "one", false), MQG_UNAUTHENTICATED);
    assert_int_equal(login(MQG_SCRAM_SHA256, "u", "two", false), MQG_OK);
    assert_int_equal(mqg_user_scram_delete(LIT("u"), MQG_SCRAM_SHA256, &ticket, &e), MQG_OK);
    assert_int_equal(mqg_user_scram_delete(LIT("u"), MQG_SCRAM_SHA256, &ticket, &e), MQG_NOT_FOUND);
    fake_restart();
    assert_int_equal(mqg_user_scram(LIT("u"), iterations, &e), MQG_OK);
    assert_int_equal(iterations[MQG_SCRAM_SHA256], 0);
    assert_int_equal(iterations[MQG_SCRAM_SHA512], 4096);
    assert_int_equal(login(MQG_SCRAM_SHA256, "u", "two", false), MQG_UNAUTHENTICATED);
    assert_int_equal(login(MQG_SCRAM_SHA512, "u", "two", false), MQG_OK);
    assert_int_equal(mqg_user_put(LIT("u"), NULL, &other, LIT(""), 0, &ticket, &e), MQG_OK);
    assert_int_equal(mqg_user_scram(LIT("u"), iterations, &e), MQG_OK);
    assert_int_equal(iterations[MQG_SCRAM_SHA512], 0);
    assert_int_equal(mqg_user_scram(LIT("nobody"), iterations, &e), MQG_NOT_FOUND);
}

static void refused_credentials(void **state)
{
    (void)state;
    uint64_t ticket = 0;
    struct mqg_error e;
    uint8_t key[65] = {1};
    put_user("u", "one");
    const struct {
        const char *name;
        uint32_t iterations;
        size_t salt, salted;
        enum mqg_err err;
    } rows[] = {
        {"u", 4095, 16, 32, MQG_INVALID}, {"u", 1000001, 16, 32, MQG_INVALID},
        {"u", 4096, 7, 32, MQG_INVALID},  {"u", 4096, 65, 32, MQG_INVALID},
        {"u", 4096, 16, 31, MQG_INVALID}, {"u", 4096, 16, 64, MQG_INVALID},
        {"u", 4096, 0, 32, MQG_INVALID},  {"nobody", 4096, 16, 32, MQG_NOT_FOUND},
    };
    for (size_t i = 0; i < MQG_COUNTOF(rows); i++)
        assert_int_equal(mqg_user_scram_put(mqg_slice_str(rows[i].name), MQG_SCRAM_SHA256, rows[i].iterations,
                                            mqg_slice_of(key, rows[i].salt),
                                            mqg_slice_of(key, rows[i].salted), &ticket, &e),
                         rows[i].err);
    assert_int_equal(ticket, 0);
    assert_int_equal(login(MQG_SCRAM_SHA256, "u", "one", false), MQG_OK);
}

/* Who is not there has a salt all the same: its own, the same again, also after a restart, and another per mechanism. */
static void made_up_salts(void **state)
{
    (void)state;
    const char *names[] = {"n,,n=nobody,r=x", "n,,n=nobody,r=x", "n,,n=someone,r=x", "n,,n=nobody,r=x",
                           "n,,n=nobody,r=x"};
    struct challenge c[MQG_COUNTOF(names)];
    for (size_t i = 0; i < MQG_COUNTOF(names); i++) {
        struct mqg_scram *s = mqg_scram_new(i == 4 ? MQG_SCRAM_SHA512 : MQG_SCRAM_SHA256);
        if (i == 3)
            fake_restart();
        assert_int_equal(client_first(s, names[i], &c[i]), MQG_MORE);
        assert_int_equal(c[i].iterations, 4096);
        assert_int_equal(strlen(c[i].salt), 24);
        mqg_scram_free(&s);
    }
    assert_string_equal(c[0].salt, c[1].salt);
    assert_string_not_equal(c[0].nonce, c[1].nonce);
    assert_string_not_equal(c[0].salt, c[2].salt);
    assert_string_equal(c[0].salt, c[3].salt);
    assert_string_not_equal(c[0].salt, c[4].salt);
}

/* ---- messages that are none -------------------------------------------------------------------------------------------- */

static void bad_first(void **state)
{
    (void)state;
    static const struct {
        const char *message, *reply;
    } rows[] = {
        {"", "e=other-error"},
        {"n", "e=other-error"},
        {"n,,", "e=other-error"},
        {"x,,n=user,r=a", "e=other-error"},
        {"n,x,n=user,r=a", "e=other-error"},
        {"n=user,r=a", "e=other-error"},
        {"p=tls-unique,,n=user,r=a", "e=channel-binding-not-supported"},
        {"n,,m=x,n=user,r=a", "e=extensions-not-supported"},
        {"n,,n=,r=a", "e=invalid-username-encoding"},
        {"n,,n=a=b,r=a", "e=invalid-username-encoding"},
        {"n,,n=a=2,r=a", "e=invalid-username-encoding"},
        {"n,,n=\xff,r=a", "e=invalid-username-encoding"},
        {"n,,n=user", "e=other-error"},
        {"n,,n=user,r=", "e=other-error"},
        {"n,,n=user,r=a b", "e=other-error"},
        {"n,,n=user,x=a", "e=other-error"},
        {"n,a=other,n=user,r=a", "e=other-error"},
    };
    for (size_t i = 0; i < MQG_COUNTOF(rows); i++) {
        struct mqg_session *session;
        struct mqg_scram *s = mqg_scram_new(MQG_SCRAM_SHA256);
        assert_int_equal(step_from(s, true, rows[i].message, rows[i].reply, &session), MQG_MALFORMED);
        assert_int_equal(step_from(s, true, "n,,n=user,r=a", "e=other-error", &session), MQG_MALFORMED);
        mqg_scram_free(&s);
    }
}

static void bad_final(void **state)
{
    (void)state;
#define GOOD  "r=" CLIENT_NONCE SERVER_NONCE
#define PROOF ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    static const struct {
        const char *message, *reply;
        enum mqg_err err;
    } rows[] = {
        {"c=biws," GOOD PROOF, NULL, MQG_OK},
        {"c=biws," GOOD ",p=eHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", "e=invalid-proof",
         MQG_UNAUTHENTICATED},
        {"c=biws," GOOD ",x=y" PROOF, "e=invalid-proof", MQG_UNAUTHENTICATED}, /* it is signed, too */
        {"c=eSws," GOOD PROOF, "e=channel-bindings-dont-match", MQG_MALFORMED},
        {"c=!," GOOD PROOF, "e=channel-bindings-dont-match", MQG_MALFORMED},
        {"c=biws,r=" CLIENT_NONCE "x" PROOF, "e=other-error", MQG_MALFORMED},
        {"c=biws,r=" CLIENT_NONCE CLIENT_NONCE SERVER_NONCE PROOF, "e=invalid-proof", MQG_UNAUTHENTICATED},
        {"c=biws,r=x" CLIENT_NONCE SERVER_NONCE PROOF, "e=other-error", MQG_MALFORMED},
        {"c=biws,r=" CLIENT_NONCE PROOF, "e=other-error", MQG_MALFORMED},
        {"c=biws," GOOD, "e=other-error", MQG_MALFORMED},
        {"c=biws," GOOD ",p=", "e=invalid-encoding", MQG_MALFORMED},
        {"c=biws," GOOD ",p=AAAA", "e=invalid-encoding", MQG_MALFORMED},
        {"c=biws," GOOD ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ", "e=invalid-encoding",
         MQG_MALFORMED},
        {GOOD PROOF, "e=other-error", MQG_MALFORMED},
        {"c=biws", "e=other-error", MQG_MALFORMED},
    };
    put_example();
    for (size_t i = 0; i < MQG_COUNTOF(rows); i++) {
        struct mqg_session *session;
        struct mqg_scram *s = auth_scram_login(MQG_SCRAM_SHA256, LIT(SERVER_NONCE));
        assert_int_equal(step_from(s, false, "n,,n=user,r=" CLIENT_NONCE, NULL, &session), MQG_MORE);
        assert_int_equal(step_from(s, false, rows[i].message, rows[i].reply, &session), rows[i].err);
        mqg_session_unref(&session);
        mqg_scram_free(&s);
    }
}

/* Every cut and every flipped bit of both messages: refused, and read within bounds. */
static void hostile(void **state)
{
    (void)state;
    const char *good[] = {"n,a=user,n=user,r=" CLIENT_NONCE, "c=biws," GOOD PROOF};
    put_example();
    for (size_t i = 0; i < 9 * strlen(good[1]); i++) {
        struct mqg_session *session;
        struct mqg_conn_info from = fake_from(false);
        struct mqg_slice reply;
        struct mqg_error e;
        struct mqg_scram *s = auth_scram_login(MQG_SCRAM_SHA256, LIT(SERVER_NONCE));
        for (size_t m = 0; m < 2; m++) {
            size_t len = strlen(good[m]), at = i / 9, bit = i % 9;
            uint8_t *copy = malloc(len);
            memcpy(copy, good[m], len);
            if (at < len && bit < 8)
                copy[at] = (uint8_t)(copy[at] ^ (1u << bit));
            size_t cut = at < len && bit == 8 ? at : len;
            enum mqg_err err = mqg_scram_step(s, &from, mqg_slice_of(copy, cut), &reply, &session, &e);
            assert_int_not_equal(err, MQG_OK);
            assert_null(session);
            free(copy);
        }
        mqg_scram_free(&s);
    }
}

int scram_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(rfc_vectors, fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(logins, fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(with_the_password, fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(refused_credentials, fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(made_up_salts, fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(bad_first, fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(bad_final, fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(hostile, fake_setup, fake_teardown),
    };
    return cmocka_run_group_tests_name("scram", tests, NULL, NULL);
}
