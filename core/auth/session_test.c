/* session_test.c - logins, vhosts, rights, and what a session sees after a change. */
#include "fake.h"

#include <mqgate/broker.h>

#define LIT(text) MQG_SLICE_LIT(text)

static void put_user(const char *name, const char *password)
{
    uint64_t ticket = 0;
    struct mqg_error e;
    struct mqg_slice secret = mqg_slice_str(password);
    assert_int_equal(mqg_user_put(mqg_slice_str(name), &secret, NULL, LIT(""), 0, &ticket, &e), MQG_OK);
    assert_true(ticket > 0);
}

static void put_perm(const char *user, const char *configure, const char *write, const char *read)
{
    uint64_t ticket = 0;
    struct mqg_error e;
    assert_int_equal(mqg_perm_put(mqg_slice_str(user), LIT("v"), mqg_slice_str(configure),
                                  mqg_slice_str(write), mqg_slice_str(read), &ticket, &e),
                     MQG_OK);
    assert_true(ticket > 0);
}

static struct mqg_session *login(const char *user, const char *password, const char *vhost)
{
    struct mqg_conn_info from = fake_from(false);
    struct mqg_session *s;
    struct mqg_error e;
    assert_int_equal(mqg_auth_password(&from, mqg_slice_str(user), mqg_slice_str(password), &s, &e), MQG_OK);
    if (vhost != NULL)
        assert_int_equal(mqg_session_open(s, mqg_slice_str(vhost), &e), MQG_OK);
    return s;
}

static enum mqg_err try_login(const char *user, const char *password, bool loopback)
{
    struct mqg_conn_info from = fake_from(loopback);
    struct mqg_session *s = NULL;
    struct mqg_error e = {0};
    enum mqg_err err = mqg_auth_password(&from, mqg_slice_str(user), mqg_slice_str(password), &s, &e);
    assert_true((err == MQG_OK) == (s != NULL));
    unsigned seen = 0;
    assert_int_equal(mqg_auth_check(mqg_slice_str(user), mqg_slice_str(password), loopback, &seen), err);
    mqg_session_unref(&s);
    return err;
}

static void logins(void **state)
{
    (void)state;
    put_user("u", "pw");
    assert_int_equal(try_login("u", "pw", false), MQG_OK);
    assert_int_equal(try_login("u", "pw2", false), MQG_UNAUTHENTICATED);
    assert_int_equal(try_login("u", "", false), MQG_UNAUTHENTICATED);
    assert_int_equal(try_login("U", "pw", false), MQG_UNAUTHENTICATED);
    assert_int_equal(try_login("", "", true), MQG_UNAUTHENTICATED);
    assert_int_equal(try_login("guest", "guest", true), MQG_OK);
    assert_int_equal(try_login("guest", "guest", false), MQG_UNAUTHENTICATED);
}

static void guest_from_everywhere(void **state)
{
    (void)state;
    struct mqg_error e;
    fake_guest_loopback_only = false;
    assert_int_equal(mqg_auth_init(NULL, &e), MQG_OK);
    assert_int_equal(try_login("guest", "guest", false), MQG_OK);
}

static void anonymous(void **state)
{
    (void)state;
    struct mqg_error e;
    fake_anonymous = true;
    assert_int_equal(mqg_auth_init(NULL, &e), MQG_OK);
    assert_int_equal(try_login("", "", true), MQG_OK);
    assert_int_equal(try_login("", "", false), MQG_UNAUTHENTICATED);
    assert_int_equal(try_login("", "x", true), MQG_UNAUTHENTICATED);
}

static void external(void **state)
{
    (void)state;
    struct mqg_conn_info from = fake_from(false);
    struct mqg_session *s = NULL;
    struct mqg_error e;
    put_user("cn", "");
    assert_int_equal(mqg_auth_external(&from, LIT("cn"), &s, &e), MQG_OK);
    assert_string_equal(s->user, "cn");
    assert_int_equal(s->conn_id, 7);
    mqg_session_unref(&s);
    assert_int_equal(mqg_auth_external(&from, LIT("nobody"), &s, &e), MQG_UNAUTHENTICATED);
    assert_int_equal(mqg_auth_external(&from, LIT("guest"), &s, &e), MQG_UNAUTHENTICATED);
    assert_int_equal(mqg_auth_external(&from, LIT(""), &s, &e), MQG_UNAUTHENTICATED);
    assert_int_equal(try_login("cn", "", false), MQG_UNAUTHENTICATED); /* no password, no password login */
}

static void open_texts(void **state)
{
    (void)state;
    struct mqg_error e = {0};
    put_user("u", "pw");
    struct mqg_session *s = login("u", "pw", NULL);
    assert_int_equal(mqg_session_open(s, LIT("none"), &e), MQG_NOT_FOUND);
    assert_string_equal(e.text, "vhost none not found");
    assert_int_equal(mqg_session_open(s, LIT("v"), &e), MQG_DENIED);
    assert_string_equal(e.text, "access to vhost 'v' refused for user 'u'");
    assert_int_equal(e.code, 530);
    assert_null(s->vhost);
    put_perm("u", "", "", "");
    assert_int_equal(mqg_session_open(s, LIT("v"), &e), MQG_OK);
    assert_non_null(s->vhost);
    mqg_session_unref(&s);
}

static void need_texts(void **state)
{
    (void)state;
    struct mqg_error e = {0};
    put_user("u", "pw");
    put_perm("u", "^my-", "^(my-|shared)", "^my-");
    struct mqg_session *s = login("u", "pw", "v");
    assert_int_equal(mqg_session_need(s, MQG_CONFIGURE, "queue", LIT("my-q"), &e), MQG_OK);
    assert_int_equal(mqg_session_need(s, MQG_CONFIGURE, "queue", LIT("other"), &e), MQG_DENIED);
    assert_string_equal(e.text, "access to queue 'other' in vhost 'v' refused for user 'u'");
    assert_int_equal(e.code, 403);
    assert_int_equal(mqg_session_need(s, MQG_WRITE, "exchange", LIT(""), &e), MQG_DENIED);
    assert_string_equal(e.text, "access to exchange 'amq.default' in vhost 'v' refused for user 'u'");
    assert_true(mqg_session_can(s, MQG_WRITE, LIT("shared")));
    assert_false(mqg_session_can(s, MQG_READ, LIT("shared")));
    mqg_session_unref(&s);
}

/* More names than answers are kept, long names, and each twice: the cache never changes an answer. */
static void many_names(void **state)
{
    (void)state;
    put_user("u", "pw");
    put_perm("u", ".*", "^(a|amq\\.default|b{100})", "");
    struct mqg_session *s = login("u", "pw", "v");
    char name[101];
    for (int round = 0; round < 3; round++) {
        for (char c = 'a'; c <= 'h'; c++) {
            name[0] = c;
            assert_int_equal(mqg_session_can(s, MQG_WRITE, mqg_slice_of(name, 1)), c == 'a');
            assert_true(mqg_session_can(s, MQG_CONFIGURE, mqg_slice_of(name, 1)));
            assert_false(mqg_session_can(s, MQG_READ, mqg_slice_of(name, 1)));
        }
        memset(name, 'b', 100);
        assert_true(mqg_session_can(s, MQG_WRITE, mqg_slice_of(name, 100)));
        assert_false(mqg_session_can(s, MQG_WRITE, mqg_slice_of(name, 99)));
        assert_true(mqg_session_can(s, MQG_WRITE, LIT("")));
    }
    mqg_session_unref(&s);
}

static void after_a_change(void **state)
{
    (void)state;
    struct mqg_error e;
    uint64_t ticket;
    put_user("u", "pw");
    put_perm("u", ".*", ".*", ".*");
    struct mqg_session *s = login("u", "pw", "v");
    assert_true(mqg_session_can(s, MQG_WRITE, LIT("x")));
    put_perm("u", ".*", "^y$", ".*");
    assert_false(mqg_session_can(s, MQG_WRITE, LIT("x")));
    assert_true(mqg_session_can(s, MQG_WRITE, LIT("y")));
    assert_int_equal(mqg_perm_delete(LIT("u"), LIT("v"), &ticket, &e), MQG_OK);
    assert_false(mqg_session_can(s, MQG_WRITE, LIT("y")));
    put_perm("u", ".*", ".*", ".*");
    assert_true(mqg_session_can(s, MQG_WRITE, LIT("y")));
    assert_int_equal(mqg_user_delete(LIT("u"), &ticket, &e), MQG_OK);
    assert_false(mqg_session_can(s, MQG_WRITE, LIT("y")));
    mqg_session_unref(&s);
}

static void internal(void **state)
{
    (void)state;
    struct mqg_session *s = mqg_session_internal(mqg_vhost_find(LIT("v"))), *again = mqg_session_ref(s);
    assert_true(mqg_session_can(s, MQG_CONFIGURE, LIT("x")));
    mqg_session_unref(&s);
    assert_true(mqg_session_can(again, MQG_WRITE, LIT("")));
    mqg_session_unref(&again);
}

static void user_can(void **state)
{
    (void)state;
    put_user("u", "pw");
    put_perm("u", "", "^amq\\.default$", "x");
    assert_true(mqg_user_can(LIT("u"), LIT("v"), MQG_WRITE, LIT("")));
    assert_false(mqg_user_can(LIT("u"), LIT("v"), MQG_CONFIGURE, LIT("x")));
    assert_false(mqg_user_can(LIT("u"), LIT("/"), MQG_READ, LIT("x")));
}

int session_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(logins, fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(guest_from_everywhere, fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(anonymous, fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(external, fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(open_texts, fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(need_texts, fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(many_names, fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(after_a_change, fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(internal, fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(user_can, fake_setup, fake_teardown),
    };
    return cmocka_run_group_tests_name("session", tests, NULL, NULL);
}
