/* fake.c - see fake.h. Three vhosts exist: "/", "v" and "". */
#include "fake.h"

#include <mqgate/broker.h>
#include <mqgate/lanes.h>

struct fake_record fake_records[64];
size_t fake_nrecords;
bool fake_anonymous, fake_guest_loopback_only;

struct mqg_vhost {
    struct mqg_slice name;
};
static struct mqg_vhost fake_vhosts[] = {{MQG_SLICE_INIT("/")}, {MQG_SLICE_INIT("v")}, {MQG_SLICE_INIT("")}};

struct mqg_vhost *mqg_vhost_find(struct mqg_slice name)
{
    for (size_t i = 0; i < MQG_COUNTOF(fake_vhosts); i++)
        if (mqg_slice_eq(fake_vhosts[i].name, name))
            return &fake_vhosts[i];
    return NULL;
}

struct mqg_slice mqg_vhost_name(const struct mqg_vhost *v)
{
    return v->name;
}

bool mqg_conf_bool(const struct mqg_conf *c, const char *section, const char *key)
{
    (void)c;
    assert_string_equal(section, "auth");
    if (strcmp(key, "anonymous") == 0)
        return fake_anonymous;
    assert_string_equal(key, "guest_loopback_only");
    return fake_guest_loopback_only;
}

static uint64_t fake_write(struct mqg_slice key, struct mqg_slice value, bool gone)
{
    size_t at = 0;
    while (at < fake_nrecords && !mqg_slice_eq(mqg_slice_str(fake_records[at].key), key))
        at++;
    assert_true(at < MQG_COUNTOF(fake_records) && key.len < sizeof fake_records[0].key);
    assert_true(value.len <= sizeof fake_records[0].value);
    if (at == fake_nrecords)
        fake_nrecords++;
    struct fake_record *r = &fake_records[at];
    snprintf(r->key, sizeof r->key, "%.*s", MQG_SLICE_FMT(key));
    if (value.len > 0)
        memcpy(r->value, value.ptr, value.len);
    r->len = value.len;
    r->gone = gone;
    return at + 1;
}

uint64_t mqg_meta_put(struct mqg_slice key, struct mqg_slice value)
{
    return fake_write(key, value, false);
}

uint64_t mqg_meta_remove(struct mqg_slice key)
{
    return fake_write(key, MQG_SLICE_NONE, true);
}

int fake_setup(void **state)
{
    (void)state;
    fake_nrecords = 0;
    fake_anonymous = false;
    fake_guest_loopback_only = true;
    struct mqg_error e;
    assert_int_equal(mqg_auth_init(NULL, &e), MQG_OK);
    mqg_auth_recovered();
    return 0;
}

int fake_teardown(void **state)
{
    (void)state;
    mqg_auth_fini();
    return 0;
}

void fake_restart(void)
{
    struct mqg_error e;
    mqg_auth_fini();
    assert_int_equal(mqg_auth_init(NULL, &e), MQG_OK);
    for (size_t i = 0; i < fake_nrecords; i++)
        if (!fake_records[i].gone)
            mqg_auth_recover(mqg_slice_str(fake_records[i].key),
                             mqg_slice_of(fake_records[i].value, fake_records[i].len));
    mqg_auth_recovered();
}

struct mqg_conn_info fake_from(bool loopback)
{
    struct mqg_conn_info from = {
        .id = 7, .peer_host = "192.0.2.1", .flags = loopback ? MQG_CONN_LOOPBACK : 0};
    return from;
}
