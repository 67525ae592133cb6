/* auth_test.c - management of accounts, and their records. */
#include "fake.h"

#include <mqgate/broker.h>

#define LIT(text) MQG_SLICE_LIT(text)

struct listing {
    char text[2048];
};

static void list_user(void *arg, const struct mqg_user_info *u)
{
    struct listing *l = arg;
    char tags[96];
    mqg_tags_print(u->tags, tags);
    size_t len = strlen(l->text);
    snprintf(l->text + len, sizeof l->text - len, "%s[%s]%s ", u->name, tags, u->hash_base64[0] ? "" : "-");
}

static void list_perm(void *arg, const struct mqg_perm_info *p)
{
    struct listing *l = arg;
    size_t len = strlen(l->text);
    snprintf(l->text + len, sizeof l->text - len, "%s@%s(%s|%s|%s) ", p->user, p->vhost, p->configure,
             p->write, p->read);
}

static void assert_listing(const char *users, const char *perms)
{
    struct listing l = {""};
    mqg_user_each(list_user, &l);
    assert_string_equal(l.text, users);
    l.text[0] = '\0';
    mqg_perm_each(list_perm, &l);
    assert_string_equal(l.text, perms);
}

static enum mqg_err put(const char *name, const char *password, const char *hash, const char *algorithm,
                        unsigned tags)
{
    struct mqg_slice p = mqg_slice_str(password ? password : ""), h = mqg_slice_str(hash ? hash : "");
    uint64_t ticket = 0;
    struct mqg_error e = {0};
    enum mqg_err err = mqg_user_put(mqg_slice_str(name), password ? &p : NULL, hash ? &h : NULL,
                                    mqg_slice_str(algorithm), tags, &ticket, &e);
    assert_int_equal(ticket > 0, err == MQG_OK);
    assert_int_equal(e.text[0] != '\0', err != MQG_OK);
    return err;
}

static enum mqg_err permit(const char *user, const char *vhost, const char *configure)
{
    uint64_t ticket = 0;
    struct mqg_error e = {0};
    enum mqg_err err = mqg_perm_put(mqg_slice_str(user), mqg_slice_str(vhost), mqg_slice_str(configure),
                                    LIT("w"), LIT("r"), &ticket, &e);
    assert_int_equal(ticket > 0, err == MQG_OK);
    assert_int_equal(e.text[0] != '\0', err != MQG_OK);
    return err;
}

static void first_user(void **state)
{
    (void)state;
    assert_listing("guest[administrator] ", "guest@/(.*|.*|.*) ");
    assert_int_equal(fake_nrecords, 3);
    fake_restart();
    assert_listing("guest[administrator] ", "guest@/(.*|.*|.*) ");
    assert_int_equal(fake_nrecords, 3);
}

/* Who deletes guest does not get it back at the next start. */
static void first_user_stays_away(void **state)
{
    (void)state;
    uint64_t ticket;
    struct mqg_error e;
    assert_int_equal(put("boss", "pw", NULL, "", MQG_TAG_ADMINISTRATOR), MQG_OK);
    assert_int_equal(mqg_user_delete(LIT("guest"), &ticket, &e), MQG_OK);
    assert_listing("boss[administrator] ", "");
    fake_restart();
    assert_listing("boss[administrator] ", "");
    assert_int_equal(mqg_user_delete(LIT("boss"), &ticket, &e), MQG_OK);
    fake_restart();
    assert_listing("", "");
}

static void round_trip(void **state)
{
    (void)state;
    const char *hash =
        "kI3GChuNuIYf8lRbCCxZjgjKwsY19ns6+uFO0zcXRBGA/XGJPYD8OWMy7EB8TaOmAzjP2azv84GbINYwX2cDWb4DHnc=";
    unsigned tags = 0;
    assert_int_equal(put("a/b%c d\xc3\xa9", "pw", NULL, "", MQG_TAG_MONITORING), MQG_OK);
    assert_int_equal(put("imported", NULL, hash, AUTH_SHA512, MQG_TAG_MANAGEMENT), MQG_OK);
    assert_int_equal(put("nopass", NULL, NULL, "", 0), MQG_OK);
    assert_int_equal(permit("a/b%c d\xc3\xa9", "v", "^(x|y)$"), MQG_OK);
    assert_int_equal(permit("imported", "/", ""), MQG_OK);
    assert_int_equal(permit("imported", "", ".*"), MQG_OK);
    const char *users = "a/b%c d\xc3\xa9[monitoring] guest[administrator] imported[management] nopass[]- ";
    const char *perms =
        "imported@(.*|w|r) guest@/(.*|.*|.*) imported@/(|w|r) a/b%c d\xc3\xa9@v(^(x|y)$|w|r) ";
    assert_listing(users, perms);
    fake_restart();
    assert_listing(users, perms);
    assert_int_equal(mqg_auth_check(LIT("imported"), LIT("test12"), false, &tags), MQG_OK);
    assert_int_equal(tags, MQG_TAG_MANAGEMENT);
    assert_true(mqg_user_can(LIT("imported"), LIT(""), MQG_CONFIGURE, LIT("any")));
    assert_string_equal(fake_records[3].key, "user/a%2Fb%25c%20d%C3%A9");
    assert_string_equal(fake_records[7].key, "perm/%2F/imported");
    assert_string_equal(fake_records[8].key, "perm//imported");
}

static void changes(void **state)
{
    (void)state;
    uint64_t ticket = 0;
    struct mqg_error e = {0};
    assert_int_equal(put("u", "pw", NULL, "", 0), MQG_OK);
    assert_int_equal(put("u", "pw2", NULL, "", 0), MQG_OK);
    assert_int_equal(mqg_user_tags(LIT("u"), MQG_TAG_MANAGEMENT, &ticket, &e), MQG_OK);
    unsigned tags = 0;
    assert_int_equal(mqg_auth_check(LIT("u"), LIT("pw"), false, &tags), MQG_UNAUTHENTICATED);
    assert_int_equal(mqg_auth_check(LIT("u"), LIT("pw2"), false, &tags), MQG_OK);
    assert_int_equal(tags, MQG_TAG_MANAGEMENT);
    assert_true(mqg_user_tags_now(LIT("u"), &tags));
    assert_int_equal(tags, MQG_TAG_MANAGEMENT);
    assert_false(mqg_user_tags_now(LIT("v"), &tags));
    assert_int_equal(permit("u", "v", "a"), MQG_OK);
    assert_int_equal(permit("u", "v", "b"), MQG_OK);
    assert_int_equal(permit("u", "/", "c"), MQG_OK);
    assert_listing("guest[administrator] u[management] ", "guest@/(.*|.*|.*) u@/(c|w|r) u@v(b|w|r) ");
    assert_int_equal(mqg_user_delete(LIT("u"), &ticket, &e), MQG_OK);
    assert_listing("guest[administrator] ", "guest@/(.*|.*|.*) ");
    fake_restart();
    assert_listing("guest[administrator] ", "guest@/(.*|.*|.*) ");
}

static void vhost_gone(void **state)
{
    (void)state;
    assert_int_equal(put("u", "pw", NULL, "", 0), MQG_OK);
    assert_int_equal(permit("u", "v", "a"), MQG_OK);
    assert_int_equal(permit("guest", "v", "a"), MQG_OK);
    assert_true(mqg_auth_vhost_gone(LIT("v")) > 0);
    assert_int_equal(mqg_auth_vhost_gone(LIT("v")), 0);
    assert_listing("guest[administrator] u[] ", "guest@/(.*|.*|.*) ");
    fake_restart();
    assert_listing("guest[administrator] u[] ", "guest@/(.*|.*|.*) ");
}

static void refused(void **state)
{
    (void)state;
    uint64_t ticket = 0;
    struct mqg_error e = {0};
    char name[257];
    memset(name, 'n', 256);
    name[256] = '\0';
    assert_int_equal(put("", "pw", NULL, "", 0), MQG_INVALID);
    assert_int_equal(put(name, "pw", NULL, "", 0), MQG_INVALID);
    assert_int_equal(put(name + 1, "pw", NULL, "", 0), MQG_OK);
    assert_int_equal(put("\xff", "pw", NULL, "", 0), MQG_INVALID);
    assert_int_equal(put("u", NULL, "not base64", "", 0), MQG_INVALID);
    assert_int_equal(put("u", NULL, "", "md5", 0), MQG_UNSUPPORTED);
    assert_int_equal(permit("nobody", "v", ""), MQG_NOT_FOUND);
    assert_int_equal(permit("guest", "none", ""), MQG_NOT_FOUND);
    assert_int_equal(permit("guest", "v", "("), MQG_INVALID);
    assert_int_equal(permit("guest", "v", "\xff"), MQG_INVALID);
    assert_int_equal(mqg_user_delete(LIT("nobody"), &ticket, &e), MQG_NOT_FOUND);
    assert_string_equal(e.text, "user 'nobody' does not exist");
    assert_int_equal(mqg_user_tags(LIT("nobody"), 0, &ticket, &e), MQG_NOT_FOUND);
    assert_int_equal(mqg_perm_delete(LIT("guest"), LIT("v"), &ticket, &e), MQG_NOT_FOUND);
}

/* Every cut and every flipped byte of good records: none crashes, none makes another account's record. */
static void hostile_records(void **state)
{
    (void)state;
    for (size_t r = 0; r < 2; r++) {
        struct fake_record good = fake_records[r];
        struct mqg_slice key = mqg_slice_str(good.key);
        for (size_t i = 0; i < good.len; i++) {
            mqg_auth_fini();
            uint8_t *cut = malloc(i > 0 ? i : 1);
            memcpy(cut, good.value, i);
            mqg_auth_recover(key, mqg_slice_of(cut, i));
            free(cut);
            assert_listing("", "");
            good.value[i] ^= 0x80;
            mqg_auth_recover(key, mqg_slice_of(good.value, good.len));
            good.value[i] ^= 0x80;
        }
        mqg_auth_fini();
        mqg_auth_recover(MQG_SLICE_LIT("user/other"), mqg_slice_of(good.value, good.len));
        mqg_auth_recover(MQG_SLICE_LIT("perm/%2F/other"), mqg_slice_of(good.value, good.len));
        assert_listing("", "");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(first_user, fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(first_user_stays_away, fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(round_trip, fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(changes, fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(vhost_gone, fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(refused, fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(hostile_records, fake_setup, fake_teardown),
    };
    return cmocka_run_group_tests_name("accounts", tests, NULL, NULL) + password_tests() + scram_tests() +
           session_tests();
}
