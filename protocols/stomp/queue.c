/* queue.c - the queues behind destinations: those of SENDs, of subscriptions, of reply-to.
 *
 *   /queue/q                    q, durable unless the headers say else, and then exclusive and auto-delete unless they say else
 *                               (RabbitMQ's rule); one that exists is used as it is when they say nothing
 *   /amq/queue/q, /reply-queue  q, which must exist
 *   /topic/k, /exchange/x/k     a queue of this subscription, bound with k: gone with it, or, with durable:true, named after
 *                               destination and id, so that the subscription goes on with the next connection
 *
 * Definitions come into effect at once; the RECEIPT waits until they are on disk. */
#include "stomp.h"

#include <openssl/evp.h>
#include <stdio.h>

#define QUEUES_KNOWN 4096u

/* ---- queues for SENDs --------------------------------------------------------------------------------------------------- */

bool stomp_queue_make(struct stomp_conn *sc, struct mqg_slice name, uint64_t *ticket)
{
    struct mqg_error e;
    struct mqg_queue *q = NULL;
    enum mqg_err err = mqg_queue_open(sc->session, name, &q, &e);
    if (err == MQG_OK)
        mqg_queue_unref(&q);
    if (err == MQG_NOT_FOUND || err == MQG_GONE) {
        struct mqg_queue_def d = {.name = name, .durable = true};
        struct mqg_queue_ok ok;
        d.owner_conn = mqg_conn_info(sc->conn)->id;
        if (mqg_queue_declare(sc->session, &d, false, &ok, ticket, &e) != MQG_OK) {
            stomp_fail_router(sc, &e);
            return false;
        }
    }
    if (sc->made.count >= QUEUES_KNOWN) {
        mqg_map_fini(&sc->made);
        mqg_map_init(&sc->made, MQG_MAP_COPY);
    }
    mqg_map_set(&sc->made, name, sc);
    return true;
}

/* ---- of subscriptions --------------------------------------------------------------------------------------------------- */

/* "stomp-subscription-" and 32 digits: of destination and id where it shall be found again, else random. */
static struct mqg_slice queue_name(struct stomp_want *w)
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    if (w->durable) {
        EVP_MD_CTX *md = EVP_MD_CTX_new();
        bool good = md != NULL && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1 &&
                    EVP_DigestUpdate(md, w->text.ptr, w->text.len) == 1 && EVP_DigestUpdate(md, "", 1) == 1 &&
                    EVP_DigestUpdate(md, w->id.ptr, w->id.len) == 1 &&
                    EVP_DigestFinal_ex(md, digest, NULL) == 1;
        EVP_MD_CTX_free(md);
        MQG_ASSERT(good);
    } else {
        mqg_random_bytes(digest, 16);
    }
    int n = snprintf(w->name, sizeof w->name, "stomp-subscription-%016llx%016llx",
                     (unsigned long long)mqg_be64(digest), (unsigned long long)mqg_be64(digest + 8));
    return mqg_slice_of(w->name, (size_t)n);
}

bool stomp_queue_declare(struct stomp_conn *sc, struct stomp_want *w, struct mqg_queue **q)
{
    struct mqg_error e;
    struct mqg_queue_ok ok;
    w->def.owner_conn = mqg_conn_info(sc->conn)->id;
    enum mqg_err err = mqg_queue_declare(sc->session, &w->def, false, &ok, &w->ticket, &e);
    if (err == MQG_OK)
        err = mqg_queue_open(sc->session, ok.name, q, &e);
    if (err != MQG_OK)
        stomp_fail_router(sc, &e);
    return err == MQG_OK;
}

static bool queue_open_shared(struct stomp_conn *sc, struct stomp_want *w, bool may_make,
                              struct mqg_queue **q)
{
    struct mqg_error e;
    if (!may_make || !w->says_properties) {
        enum mqg_err err = mqg_queue_open(sc->session, w->dest.key, q, &e);
        if (err == MQG_OK)
            return true;
        if (!may_make || err != MQG_NOT_FOUND) {
            stomp_fail_router(sc, &e);
            return false;
        }
    }
    w->def.name = w->dest.key;
    w->def.durable = stomp_flag(w->h, STOMP_H_DURABLE, stomp_flag(w->h, STOMP_H_PERSISTENT, true));
    w->def.auto_delete = stomp_flag(w->h, STOMP_H_AUTO_DELETE, !w->def.durable);
    w->def.exclusive = stomp_flag(w->h, STOMP_H_EXCLUSIVE, !w->def.durable);
    return stomp_queue_declare(sc, w, q);
}

/* A queue that was made for nothing: nobody else knows of it. */
static void queue_forget(struct stomp_conn *sc, struct mqg_slice name)
{
    struct mqg_error e;
    uint64_t messages, ticket;
    if (mqg_queue_delete(sc->session, name, false, false, &messages, &ticket, &e) != MQG_OK)
        mqg_log(MQG_LOG_DEBUG, MQG_EVENT_DEFINE, "queue=%s why=%s", mqg_logq(name), mqg_logqs(e.text));
}

static bool queue_open_own(struct stomp_conn *sc, struct stomp_want *w, struct mqg_queue **q)
{
    struct mqg_slice given;
    struct mqg_error e;
    if (!stomp_value(sc, w->h, STOMP_H_X_QUEUE_NAME, &given))
        return false;
    if (w->durable && w->id.ptr == NULL && given.len == 0) {
        stomp_fail(sc, "Missing header", "a durable subscription needs an 'id', by which it is found again");
        return false;
    }
    w->def.name = given.len > 0 ? given : queue_name(w);
    w->def.durable = w->durable;
    w->def.auto_delete = stomp_flag(w->h, STOMP_H_AUTO_DELETE, !w->durable);
    w->def.exclusive = stomp_flag(w->h, STOMP_H_EXCLUSIVE, !w->durable && given.len == 0);
    if (!stomp_queue_declare(sc, w, q))
        return false;
    struct mqg_binding_def b = {.source = w->dest.exchange, .destination = w->def.name, .key = w->dest.key};
    uint64_t ticket = 0;
    if (mqg_binding_put(sc->session, &b, &ticket, &e) != MQG_OK) {
        mqg_queue_unref(q);
        if (!w->durable)
            queue_forget(sc, w->def.name);
        stomp_fail_router(sc, &e);
        return false;
    }
    w->ticket = ticket > w->ticket ? ticket : w->ticket;
    return true;
}

/* A selector takes out of its queue what it does not match, so the queue must be nobody else's, or one from which nothing is
 * taken: a stream. Not decided by what is declared, for what is there already counts. */
static bool queue_may_filter(struct stomp_conn *sc, const struct stomp_want *w)
{
    bool topic = w->dest.kind == STOMP_DEST_TOPIC || w->dest.kind == STOMP_DEST_EXCHANGE;
    struct mqg_slice name = w->dest.key;
    if (topic && !stomp_value(sc, w->h, STOMP_H_X_QUEUE_NAME, &name))
        return false;
    if (topic && name.len == 0)
        return true;
    struct mqg_error e;
    struct mqg_queue *q = NULL;
    const struct mqg_value *type = mqg_table_get(&w->def.args, MQG_SLICE_LIT("x-queue-type"));
    bool stream = type != NULL && mqg_slice_eq(type->bytes, MQG_SLICE_LIT("stream"));
    if (mqg_queue_open(sc->session, name, &q, &e) == MQG_OK) {
        stream = mqg_queue_is_stream(q);
        mqg_queue_unref(&q);
    }
    if (!stream)
        stomp_fail(sc, "not_implemented",
                   "NOT_IMPLEMENTED - selector: queue '%.*s' may have other consumers, who would lose what "
                   "it does not "
                   "match, or wait behind it; subscribe to a /topic/, an /exchange/ or a stream instead",
                   MQG_SLICE_FMT(name));
    return stream;
}

bool stomp_queue_open(struct stomp_conn *sc, struct stomp_want *w, struct mqg_queue **q)
{
    mqg_publish_flush();
    if (!stomp_args(sc, w->h, false, &w->def.args) || (w->filters && !queue_may_filter(sc, w)))
        return false;
    w->durable = stomp_flag(w->h, STOMP_H_DURABLE, stomp_flag(w->h, STOMP_H_PERSISTENT, false));
    w->says_properties = w->def.args.n > 0 || stomp_has(w->h, STOMP_H_DURABLE) ||
                         stomp_has(w->h, STOMP_H_PERSISTENT) || stomp_has(w->h, STOMP_H_AUTO_DELETE) ||
                         stomp_has(w->h, STOMP_H_EXCLUSIVE);
    switch (w->dest.kind) {
    case STOMP_DEST_QUEUE: return queue_open_shared(sc, w, true, q);
    case STOMP_DEST_AMQ_QUEUE:
    case STOMP_DEST_REPLY_QUEUE: return queue_open_shared(sc, w, false, q);
    case STOMP_DEST_TOPIC:
    case STOMP_DEST_EXCHANGE: return queue_open_own(sc, w, q);
    case STOMP_DEST_TEMP_QUEUE: break;
    }
    stomp_fail(sc, "Invalid destination", "a /temp-queue/ is subscribed to by naming it in reply-to");
    return false;
}
