/* allowed.c - who may do what, in the vhost's terms: topics are resources by their name, everything else is free to who is in
 * the vhost. */
#include "kafka_int.h"

bool kafka_allowed(struct kafka_conn *kc, enum mqg_perm perm, const char *kind, struct mqg_slice name)
{
    return strcmp(kind, "topic") != 0 || mqg_session_can(kc->session, perm, name);
}
