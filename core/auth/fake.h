/* fake.h - for the tests of core/auth: vhosts, metadata and configuration without the parts that own them. */
#ifndef MQG_AUTH_FAKE_H
#define MQG_AUTH_FAKE_H

#include "auth_int.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* What the store would hold: the last value per key. */
struct fake_record {
    char key[512];
    uint8_t value[4096];
    size_t len;
    bool gone;
};
extern struct fake_record fake_records[64];
extern size_t fake_nrecords;
extern bool fake_anonymous, fake_guest_loopback_only;

/* No users, no records, settings at their defaults, then init and recovered: guest is there. */
int fake_setup(void **state);
int fake_teardown(void **state);
/* Forgets the accounts in memory and recovers them from the records. */
void fake_restart(void);
struct mqg_conn_info fake_from(bool loopback);

int password_tests(void);
int scram_tests(void);
int session_tests(void);

#endif
