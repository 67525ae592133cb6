/* group_regex.h - subscriptions by regular expression (KIP-848): the whole name of a topic has to match. */
#ifndef KAFKA_GROUP_REGEX_H
#define KAFKA_GROUP_REGEX_H

#include <mqgate/base.h>

#define GROUP_REGEX_MAX 4096u /* bytes */

struct group_regex;

/* INVALID: not an expression, too long, or one that RE2 has no like of (back references, look-around...). */
enum mqg_err group_regex_new(struct mqg_slice pattern, struct group_regex **out) MQG_MUST_CHECK;
void group_regex_free(struct group_regex **r);
/* A match that takes too many steps is none; after a hundred of those nothing matches any more. */
bool group_regex_matches(struct group_regex *r, struct mqg_slice name);
/* Has that happened? */
bool group_regex_slow(const struct group_regex *r);

#endif
