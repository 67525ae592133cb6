/* paho_c.c - the Paho C client, unmodified: one pattern after the other; "ok NAME" for each. paho_c URL NAME */
#include <MQTTClient.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { WAIT_S = 15, MESSAGES = 50, INBOX = 1000 };

static const char *url, *name;

/* What came and was not yet looked at. */
static struct inbox {
    char *topic;
    MQTTClient_message *m;
} inbox[INBOX];
static unsigned came, heard;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t more = PTHREAD_COND_INITIALIZER;

static void need(int ok, const char *what)
{
    if (ok)
        return;
    printf("failed: %s\n", what);
    exit(1);
}

static const char *topic_of(const char *end)
{
    static char room[4][256];
    static unsigned next;
    char *at = room[next++ % 4];
    snprintf(at, sizeof room[0], "%s/%s", name, end);
    return at;
}

static int arrived(void *context, char *topic, int n, MQTTClient_message *m)
{
    (void)context;
    (void)n;
    pthread_mutex_lock(&lock);
    need(came - heard < INBOX, "room");
    inbox[came++ % INBOX] = (struct inbox){strdup(topic), m};
    pthread_cond_signal(&more);
    pthread_mutex_unlock(&lock);
    MQTTClient_free(topic);
    return 1;
}

static void lost(void *context, char *why)
{
    (void)context;
    (void)why;
}

static MQTTClient open_client(const char *id, int version, int clean, MQTTClient_willOptions *will,
                              int *present)
{
    MQTTClient c;
    MQTTClient_createOptions create = MQTTClient_createOptions_initializer;
    MQTTClient_connectOptions three = MQTTClient_connectOptions_initializer;
    MQTTClient_connectOptions five = MQTTClient_connectOptions_initializer5;
    MQTTClient_connectOptions *o = version == MQTTVERSION_5 ? &five : &three;
    MQTTProperties props = MQTTProperties_initializer;
    char full[256];
    snprintf(full, sizeof full, "%s-%s", name, id);
    create.MQTTVersion = version;
    need(MQTTClient_createWithOptions(&c, url, full, MQTTCLIENT_PERSISTENCE_NONE, NULL, &create) ==
             MQTTCLIENT_SUCCESS,
         "create");
    need(MQTTClient_setCallbacks(c, NULL, lost, arrived, NULL) == MQTTCLIENT_SUCCESS, "callbacks");
    o->MQTTVersion = version;
    o->username = o->password = "guest";
    o->will = will;
    if (version == MQTTVERSION_5) {
        MQTTProperty expiry = {.identifier = MQTTPROPERTY_CODE_SESSION_EXPIRY_INTERVAL,
                               .value.integer4 = clean ? 0 : 60};
        MQTTProperties_add(&props, &expiry);
        o->cleanstart = clean;
        MQTTResponse r = MQTTClient_connect5(c, o, &props, NULL);
        need(r.reasonCode == MQTTREASONCODE_SUCCESS, "connect 5");
        MQTTResponse_free(r);
    } else {
        o->cleansession = clean;
        need(MQTTClient_connect(c, o) == MQTTCLIENT_SUCCESS, "connect 3");
    }
    MQTTProperties_free(&props);
    if (present)
        *present = o->returned.sessionPresent;
    return c;
}

static void close_client(MQTTClient *c, int version)
{
    if (version == MQTTVERSION_5)
        need(MQTTClient_disconnect5(*c, 1000, MQTTREASONCODE_SUCCESS, NULL) == MQTTCLIENT_SUCCESS,
             "disconnect 5");
    else
        need(MQTTClient_disconnect(*c, 1000) == MQTTCLIENT_SUCCESS, "disconnect 3");
    MQTTClient_destroy(c);
}

static void subscribe(MQTTClient c, int version, const char *topic, int qos)
{
    if (version == MQTTVERSION_5) {
        MQTTResponse r = MQTTClient_subscribe5(c, topic, qos, NULL, NULL);
        need((int)r.reasonCode == qos, "subscribe 5");
        MQTTResponse_free(r);
    } else {
        need(MQTTClient_subscribe(c, topic, qos) == MQTTCLIENT_SUCCESS, "subscribe 3");
    }
}

static void publish(MQTTClient c, int version, const char *topic, MQTTClient_message *m)
{
    MQTTClient_deliveryToken token;
    if (version == MQTTVERSION_5) {
        MQTTResponse r = MQTTClient_publishMessage5(c, topic, m, &token);
        need(r.reasonCode == MQTTREASONCODE_SUCCESS, "publish 5");
        MQTTResponse_free(r);
    } else {
        need(MQTTClient_publishMessage(c, topic, m, &token) == MQTTCLIENT_SUCCESS, "publish 3");
    }
    need(MQTTClient_waitForCompletion(c, token, WAIT_S * 1000) == MQTTCLIENT_SUCCESS, "completion");
}

static void say(MQTTClient c, int version, const char *topic, const char *text, int qos, int retained)
{
    MQTTClient_message m = MQTTClient_message_initializer;
    m.payload = (void *)text;
    m.payloadlen = (int)strlen(text);
    m.qos = qos;
    m.retained = retained;
    publish(c, version, topic, &m);
}

/* The next message of any client, which must be this one. */
static MQTTClient_message *hear(const char *topic, const char *text)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_S;
    pthread_mutex_lock(&lock);
    while (heard == came && pthread_cond_timedwait(&more, &lock, &until) == 0)
        continue;
    need(heard < came, "a message");
    struct inbox got = inbox[heard++ % INBOX];
    pthread_mutex_unlock(&lock);
    need(strcmp(got.topic, topic) == 0, "its topic");
    need((size_t)got.m->payloadlen == strlen(text) && memcmp(got.m->payload, text, strlen(text)) == 0,
         "its payload");
    free(got.topic);
    return got.m;
}

static void drop(MQTTClient_message *m)
{
    MQTTClient_freeMessage(&m);
}

static void run_qos(int version)
{
    MQTTClient c = open_client("qos", version, 1, NULL, NULL);
    for (int qos = 0; qos <= 2; qos++) {
        char end[16], text[16];
        snprintf(end, sizeof end, "q%d", qos);
        const char *topic = topic_of(end);
        subscribe(c, version, topic, qos);
        for (int i = 0; i < MESSAGES; i++) {
            snprintf(text, sizeof text, "%d", i);
            say(c, version, topic, text, qos, 0);
        }
        for (int i = 0; i < MESSAGES; i++) {
            snprintf(text, sizeof text, "%d", i);
            MQTTClient_message *m = hear(topic, text);
            need(m->qos == qos && !m->dup, "its QoS");
            drop(m);
        }
    }
    close_client(&c, version);
}

static void run_retained(int version)
{
    MQTTClient c = open_client("retained", version, 1, NULL, NULL);
    const char *topic = topic_of("r");
    say(c, version, topic, "kept", 1, 1);
    subscribe(c, version, topic, 1);
    MQTTClient_message *m = hear(topic, "kept");
    need(m->retained, "RETAIN");
    drop(m);
    say(c, version, topic, "", 1, 1);
    drop(hear(topic, ""));
    close_client(&c, version);
}

static void run_session(int version)
{
    int present = 1;
    const char *topic = topic_of("s");
    MQTTClient c = open_client("session", version, 0, NULL, &present);
    need(!present, "no session yet");
    subscribe(c, version, topic, 2);
    close_client(&c, version);
    MQTTClient p = open_client("publisher", version, 1, NULL, NULL);
    say(p, version, topic, "waited", 2, 0);
    close_client(&p, version);
    c = open_client("session", version, 0, NULL, &present);
    need(present || version == MQTTVERSION_5, "the session"); /* it does not tell with 5.0 */
    drop(hear(topic, "waited"));
    close_client(&c, version);
    c = open_client("session", version, 1, NULL, NULL);
    close_client(&c, version);
}

static void run_will(int version)
{
    const char *topic = topic_of("w");
    MQTTClient_willOptions will = MQTTClient_willOptions_initializer;
    will.topicName = topic;
    will.message = "gone";
    will.qos = 1;
    MQTTClient c = open_client("watch", version, 1, NULL, NULL),
               dying = open_client("dying", version, 1, &will, NULL);
    subscribe(c, version, topic, 1);
    MQTTClient taker = open_client("dying", version, 1, NULL, NULL); /* takes its place */
    drop(hear(topic, "gone"));
    MQTTClient_destroy(&dying);
    close_client(&taker, version);
    close_client(&c, version);
}

static void run_properties(void)
{
    const char *topic = topic_of("p");
    MQTTClient c = open_client("props", MQTTVERSION_5, 1, NULL, NULL);
    subscribe(c, MQTTVERSION_5, topic, 1);
    MQTTClient_message m = MQTTClient_message_initializer;
    MQTTProperty user = {
        .identifier = MQTTPROPERTY_CODE_USER_PROPERTY, .value.data = {1, "k"}, .value.value = {1, "v"}};
    MQTTProperty type = {.identifier = MQTTPROPERTY_CODE_CONTENT_TYPE, .value.data = {10, "text/plain"}};
    m.payload = "x";
    m.payloadlen = 1;
    m.qos = 1;
    MQTTProperties_add(&m.properties, &user);
    MQTTProperties_add(&m.properties, &type);
    publish(c, MQTTVERSION_5, topic, &m);
    MQTTClient_message *got = hear(topic, "x");
    MQTTProperty *p = MQTTProperties_getProperty(&got->properties, MQTTPROPERTY_CODE_USER_PROPERTY);
    need(p && p->value.data.len == 1 && p->value.value.data[0] == 'v', "the user property");
    p = MQTTProperties_getProperty(&got->properties, MQTTPROPERTY_CODE_CONTENT_TYPE);
    need(p && p->value.data.len == 10 && memcmp(p->value.data.data, "text/plain", 10) == 0,
         "the content type");
    drop(got);
    MQTTProperties_free(&m.properties);
    close_client(&c, MQTTVERSION_5);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *word;
        int version;
    } versions[] = {{"31", MQTTVERSION_3_1}, {"311", MQTTVERSION_3_1_1}, {"5", MQTTVERSION_5}};
    static const struct {
        const char *word;
        void (*run)(int version);
    } rows[] = {{"qos", run_qos}, {"retained", run_retained}, {"session", run_session}, {"will", run_will}};
    need(argc == 3, "paho_c URL NAME");
    url = argv[1];
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (size_t v = 0; v < 3; v++) {
        char full[128];
        snprintf(full, sizeof full, "%s%s", argv[2], versions[v].word);
        name = full;
        for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
            if (versions[v].version == MQTTVERSION_3_1 && rows[i].run == run_session)
                continue; /* its CONNACK does not tell of a session */
            rows[i].run(versions[v].version);
            printf("ok %s_%s\n", rows[i].word, versions[v].word);
        }
        if (versions[v].version == MQTTVERSION_5)
            run_properties();
    }
    printf("ok properties\n");
    return 0;
}
