"""Topics, their configuration, ACLs and quotas, with librdkafka (confluent-kafka), kafka-python, and bytes for what those lack."""
import confluent_kafka as confluent
import kafka as kafka_python
import kafka.admin as python_admin
import kafka.errors
import pytest
from admin_raw import WAIT_S, Admin
from confluent_kafka.admin import AdminClient, NewTopic
from conftest import kafka_gateway
from kafka.admin import (ACL, ACLFilter, ACLOperation, ACLPermissionType, ACLResourcePatternType, ConfigResource,
                         ConfigResourceType, NewPartitions, ResourcePattern, ResourcePatternFilter, ResourceType)

NONE, OUT_OF_RANGE, CLUSTER_DENIED, INVALID_CONFIG, INVALID_REQUEST, POLICY = 0, 1, 31, 40, 42, 44


@pytest.fixture(scope="module")
def gateway(broker_kind):
    made = kafka_gateway().start()
    yield made
    try:
        assert made.stop(60) == 0
        made.check_log()
    finally:
        made.close()


def address(gateway):
    return f"127.0.0.1:{gateway.ports['kafka']}"


def confluent_admin(gateway):
    return AdminClient({"bootstrap.servers": address(gateway)})


def make(gateway, topic, **how):
    admin = confluent_admin(gateway)  # must live as long as its request
    admin.create_topics([topic], **how)[topic.topic].result(WAIT_S)


def create(gateway, name, partitions=1, **config):
    make(gateway, NewTopic(name, partitions, 1, config={key.replace("__", "."): value for key, value in config.items()}))
    return name


def partitions(gateway, name):
    return len(confluent_admin(gateway).list_topics(name, timeout=WAIT_S).topics[name].partitions)


@pytest.fixture
def python(gateway):
    made = kafka_python.KafkaAdminClient(bootstrap_servers=address(gateway))
    yield made
    made.close()


@pytest.fixture
def raw(gateway):
    with Admin(gateway.ports["kafka"]) as made:
        yield made


def configuration(python, name):
    """{key: (value, source)} of a topic."""
    (resource,) = python.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)],
                                          include_synonyms=True)[0].resources
    assert resource[0] == 0, resource[1]
    return {row[0]: (row[1], row[3]) for row in resource[4]}


def produce(gateway, topic, values, **settings):
    """The errors of those that were refused; settings: of librdkafka."""
    errors = []
    producer = confluent.Producer({"bootstrap.servers": address(gateway), "message.timeout.ms": WAIT_S * 1000,
                                   "partitioner": "consistent",
                                   **{key.replace("__", "."): value for key, value in settings.items()}})
    for value in values:
        producer.produce(topic, value, key=b"k", partition=0, on_delivery=lambda e, m: errors.append(e) if e else None)
    assert producer.flush(WAIT_S) == 0
    return [error.code() for error in errors]


# ---- topics

@pytest.mark.parametrize("topic, code", [
    (NewTopic("bad/name", 1, 1), "TOPIC_EXCEPTION"),
    (NewTopic("..", 1, 1), "TOPIC_EXCEPTION"),
    (NewTopic("t", 1, 3), "INVALID_REPLICATION_FACTOR"),
    (NewTopic("t", 10001, 1), "INVALID_PARTITIONS"),
    (NewTopic("t", 2, replica_assignment=[[1], [2]]), "INVALID_REPLICA_ASSIGNMENT"),
    (NewTopic("t", 1, 1, config={"no.such": "1"}), "INVALID_CONFIG"),
    (NewTopic("t", 1, 1, config={"retention.ms": "soon"}), "INVALID_CONFIG"),
    (NewTopic("amq.topic", 1, 1), "POLICY_VIOLATION"),
])
def test_topics_that_are_refused(gateway, topic, code):
    with pytest.raises(confluent.KafkaException) as refusal:
        make(gateway, topic)
    assert refusal.value.args[0].name() == code, refusal.value


def test_topics_come_grow_and_go(gateway, python, unique):
    name = create(gateway, unique("topic"), 2)
    with pytest.raises(confluent.KafkaException) as again:
        create(gateway, name)
    assert again.value.args[0].name() == "TOPIC_ALREADY_EXISTS"
    assert partitions(gateway, name) == 2
    python.create_partitions({name: NewPartitions(5)})
    assert partitions(gateway, name) == 5
    for count in (5, 4):
        with pytest.raises(kafka.errors.InvalidPartitionsError):
            python.create_partitions({name: NewPartitions(count)})
    python.delete_topics([name])
    assert name not in python.list_topics()
    with pytest.raises(kafka.errors.UnknownTopicOrPartitionError):
        python.delete_topics([name])


def test_validation_alone_makes_nothing(gateway, python, unique):
    name = unique("topic")
    make(gateway, NewTopic(name, 1, 1), validate_only=True)
    assert name not in python.list_topics()
    make(gateway, NewTopic(name, 2, replica_assignment=[[1], [1]]))
    assert name in python.list_topics()
    python.create_partitions({name: NewPartitions(3)}, validate_only=True)
    assert partitions(gateway, name) == 2


# ---- configuration

def test_configuration_is_told_and_altered(gateway, python, raw, unique):
    name = create(gateway, unique("conf"), retention__ms="5000", cleanup__policy="compact")
    told = configuration(python, name)
    assert told["retention.ms"] == ("5000", 1) and told["cleanup.policy"] == ("compact", 1)
    assert told["segment.bytes"] == ("67108864", 5) and told["max.message.bytes"] == ("1048588", 5)
    assert raw.alter(name, ("cleanup.policy", 2, "delete"), ("retention.ms", 1, None), ("segment.ms", 0, "9000")) == \
        (NONE, None)
    told = configuration(python, name)
    assert told["cleanup.policy"] == ("compact,delete", 1)
    assert told["retention.ms"] == ("-1", 5) and told["segment.ms"] == ("9000", 1)
    assert raw.alter(name, ("cleanup.policy", 3, "compact")) == (NONE, None)
    assert raw.alter(name, ("segment.ms", 0, "1"), validate_only=True) == (NONE, None)
    told = configuration(python, name)
    assert told["cleanup.policy"] == ("delete", 1) and told["segment.ms"] == ("9000", 1)
    python.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, configs={"flush.ms": "10"})])
    told = configuration(python, name)  # the older request sets what it names and nothing else
    assert {key: value for key, (value, source) in told.items() if source == 1} == {"flush.ms": "10"}


@pytest.mark.parametrize("change, code, text", [
    (("no.such", 0, "1"), INVALID_CONFIG, "Unknown topic config name: no.such"),
    (("retention.ms", 0, "-2"), INVALID_CONFIG,
     "Invalid value -2 for configuration retention.ms: Value must be at least -1"),
    (("retention.ms", 2, "1"), INVALID_CONFIG, "Can't APPEND to key retention.ms because its type is not LIST."),
    (("retention.ms", 0, None), INVALID_REQUEST, "Null value not supported for topic configs: retention.ms"),
    (("cleanup.policy", 3, "delete"), INVALID_CONFIG,
     "Invalid value  for configuration cleanup.policy: must be one of: delete|compact"),
])
def test_changes_that_are_refused(gateway, raw, change, code, text):
    try:
        create(gateway, "refusals")
    except confluent.KafkaException as there:
        assert there.args[0].name() == "TOPIC_ALREADY_EXISTS"
    assert raw.alter("refusals", change) == (code, text)


def test_what_another_protocol_declared_is_told(gateway, python, unique):
    import pika
    name = unique("declared")
    with pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", gateway.amqp_port)) as connection:
        connection.channel().queue_declare(name, durable=True, arguments={
            "x-queue-type": "stream", "x-max-age": "1h", "x-max-length-bytes": 5000000})
    told = configuration(python, name)
    assert told["retention.ms"] == ("3600000", 1) and told["retention.bytes"] == ("5000000", 1)


def test_broker_configuration(gateway, python):
    (resource,) = python.describe_configs([ConfigResource(ConfigResourceType.BROKER, "1")])[0].resources
    told = {row[0]: row[1] for row in resource[4]}
    assert told["broker.id"] == "1" and told["message.max.bytes"] == "1048588"
    done = python.alter_configs([ConfigResource(ConfigResourceType.BROKER, "1", configs={"log.retention.ms": "1"})])
    assert done.resources[0][0] == INVALID_REQUEST


def test_configuration_does_something(gateway, raw, unique):
    name = create(gateway, unique("works"), max__message__bytes="2000", message__timestamp__type="LogAppendTime")
    assert produce(gateway, name, [b"x" * 3000], message__max__bytes=100000) == [confluent.KafkaError.MSG_SIZE_TOO_LARGE]
    assert produce(gateway, name, [b"small"]) == []
    consumer = confluent.Consumer({"bootstrap.servers": address(gateway), "group.id": name})
    consumer.assign([confluent.TopicPartition(name, 0, 0)])
    message = consumer.poll(WAIT_S)
    consumer.close()
    assert message.value() == b"small" and message.timestamp()[0] == confluent.TIMESTAMP_LOG_APPEND_TIME
    assert raw.alter(name, ("max.message.bytes", 1, None)) == (NONE, None)
    assert produce(gateway, name, [b"x" * 3000]) == []


def test_configuration_outlives_the_node(own_gateway_kept, unique):
    gateway = own_gateway_kept
    kept = create(gateway, unique("kept"), max__message__bytes="2000", retention__ms="86400000")
    with Admin(gateway.ports["kafka"]) as raw:
        assert raw.set_quota({"user": "someone"}, producer_byte_rate=5000.0) == (NONE, None)
    admin = kafka_python.KafkaAdminClient(bootstrap_servers=address(gateway))
    admin.create_acls([acl("User:someone", kept)])
    admin.close()
    gateway.kill9()
    gateway.start()
    admin = kafka_python.KafkaAdminClient(bootstrap_servers=address(gateway))
    told = configuration(admin, kept)
    assert told["max.message.bytes"] == ("2000", 1) and told["retention.ms"] == ("86400000", 1)
    assert [a.principal for a in admin.describe_acls(everything())[0]] == ["User:someone"]
    with Admin(gateway.ports["kafka"]) as raw:
        assert raw.quotas() == [({"user": "someone"}, {"producer_byte_rate": 5000.0})]
    admin.delete_topics([kept])
    create(gateway, kept)  # anew: nothing of the old one
    assert configuration(admin, kept)["max.message.bytes"] == ("1048588", 5)
    admin.close()


@pytest.fixture
def own_gateway_kept(broker_kind):
    """A gateway of the test's own, which it may kill."""
    made = kafka_gateway().start()
    yield made
    try:
        assert made.stop(60) == 0
        made.check_log()
    finally:
        made.close()


# ---- records

def test_records_are_deleted(gateway, raw, unique):
    name = create(gateway, unique("records"), 2)
    assert produce(gateway, name, [b"%d" % i for i in range(10)]) == []
    assert raw.delete_records(name, {0: 4, 1: 0, 7: 0}) == {0: (4, NONE), 1: (0, NONE), 7: (-1, 3)}
    assert raw.delete_records(name, {0: 11}) == {0: (-1, OUT_OF_RANGE)}
    assert raw.delete_records(name, {0: 2}) == {0: (4, NONE)}
    consumer = confluent.Consumer({"bootstrap.servers": address(gateway), "group.id": name})
    assert consumer.get_watermark_offsets(confluent.TopicPartition(name, 0), timeout=WAIT_S) == (4, 10)
    assert raw.delete_records(name, {0: -1}) == {0: (10, NONE)}
    consumer.close()
    compacted = create(gateway, unique("compacted"), cleanup__policy="compact")
    assert raw.delete_records(compacted, {0: 0}) == {0: (-1, POLICY)}


def test_log_dirs(gateway, raw, unique):
    name = create(gateway, unique("dirs"), 2)
    assert produce(gateway, name, [b"x" * 1000] * 10) == []
    found = raw.log_dirs()
    assert set(part for topic, part in found if topic == name) == {0, 1} and found[name, 1] == 0


# ---- ACLs

def acl(principal, topic, operation=ACLOperation.READ, permission=ACLPermissionType.ALLOW,
        pattern=ACLResourcePatternType.LITERAL, kind=ResourceType.TOPIC):
    return ACL(principal, "*", operation, permission, ResourcePattern(kind, topic, pattern))


def everything():
    return ACLFilter(None, None, ACLOperation.ANY, ACLPermissionType.ANY,
                     ResourcePatternFilter(ResourceType.ANY, None, ACLResourcePatternType.ANY))


def of_topic(topic):
    return ACLFilter(None, None, ACLOperation.ANY, ACLPermissionType.ANY,
                     ResourcePatternFilter(ResourceType.TOPIC, topic, ACLResourcePatternType.MATCH))


def as_user(gateway, user):
    return {"bootstrap.servers": address(gateway), "security.protocol": "sasl_plaintext", "sasl.mechanisms": "PLAIN",
            "sasl.username": user, "sasl.password": "pw"}


def may_write(gateway, user, topic):
    codes = produce(gateway, topic, [b"x"], **{**as_user(gateway, user), "message.timeout.ms": WAIT_S * 1000})
    assert codes in ([], [confluent.KafkaError.TOPIC_AUTHORIZATION_FAILED])
    return codes == []


@pytest.fixture
def user(gateway, unique):
    """user(write=".*") may enter the vhost with these permissions."""
    def make(configure="^$", write="^$", read="^$"):
        name = unique("user")
        gateway.ctl("add_user", name, "pw")
        gateway.ctl("set_permissions", name, configure, write, read)
        return name
    return make


def test_acls_decide_where_they_stand(gateway, python, user, unique):
    topic, prefixed = create(gateway, unique("acl")), create(gateway, unique("pre.fixed"))
    rich, poor = user(write=".*", read=".*"), user()
    assert may_write(gateway, rich, topic) and not may_write(gateway, poor, topic)  # the vhost's permissions
    done = python.create_acls([acl(f"User:{poor}", topic, ACLOperation.WRITE),
                               acl(f"User:{poor}", "pre.", ACLOperation.ALL, pattern=ACLResourcePatternType.PREFIXED)])
    assert not done["failed"]
    assert may_write(gateway, poor, topic) and may_write(gateway, poor, prefixed)
    assert not may_write(gateway, rich, topic)  # it is not named there
    python.create_acls([acl("User:*", topic, ACLOperation.ALL),
                        acl(f"User:{poor}", topic, ACLOperation.WRITE, ACLPermissionType.DENY)])
    assert may_write(gateway, rich, topic) and not may_write(gateway, poor, topic)
    assert len(python.describe_acls(of_topic(topic))[0]) == 3
    ((_, deleted, _),) = python.delete_acls([of_topic(topic)])
    assert len(deleted) == 3 and python.describe_acls(of_topic(topic))[0] == []
    assert may_write(gateway, rich, topic) and not may_write(gateway, poor, topic)
    python.delete_acls([of_topic("pre.")])


def test_acls_are_for_administrators(gateway, user, unique):
    name = user(configure=".*", write=".*", read=".*")
    admin = kafka_python.KafkaAdminClient(bootstrap_servers=address(gateway), security_protocol="SASL_PLAINTEXT",
                                          sasl_mechanism="PLAIN", sasl_plain_username=name, sasl_plain_password="pw")
    ((_, error),) = admin.create_acls([acl("User:x", "t")])["failed"]
    assert kafka.errors.ClusterAuthorizationFailedError in (error, type(error))
    with pytest.raises(kafka.errors.ClusterAuthorizationFailedError):
        admin.describe_acls(everything())
    own = unique("own")
    admin.create_topics([python_admin.NewTopic(own, 1, 1)])  # may configure in the vhost
    admin.delete_topics([own])
    admin.close()


def admin_of(gateway, name):
    return kafka_python.KafkaAdminClient(bootstrap_servers=address(gateway), security_protocol="SASL_PLAINTEXT",
                                         sasl_mechanism="PLAIN", sasl_plain_username=name, sasl_plain_password="pw",
                                         api_version=(2, 5, 0))


def of_kind(kind, name, principal, operation):
    return ACL(principal=f"User:{principal}", host="*", operation=operation, permission_type=ACLPermissionType.ALLOW,
               resource_pattern=ResourcePattern(kind, name))


def test_groups_are_seen_with_describe(gateway, python, user, unique):
    topic, group, sees, nobody = create(gateway, unique("t")), unique("g"), user(), user()
    python.create_acls([of_kind(ResourceType.GROUP, group, sees, ACLOperation.DESCRIBE),
                        of_kind(ResourceType.TOPIC, topic, sees, ACLOperation.DESCRIBE)])
    position = [confluent.TopicPartition(topic, 0, 7)]
    settings = {"bootstrap.servers": address(gateway), "group.id": group, "enable.auto.commit": False}
    confluent.Consumer(settings).commit(offsets=position, asynchronous=False)   # as the administrator
    seeing, blind = admin_of(gateway, sees), admin_of(gateway, nobody)
    assert seeing.describe_consumer_groups([group])[0].error_code == 0
    assert [at.offset for at in seeing.list_consumer_group_offsets(group).values()] == [7]
    assert group in [name for name, _ in seeing.list_consumer_groups()]
    assert group not in [name for name, _ in blind.list_consumer_groups()]
    with pytest.raises(kafka.errors.GroupAuthorizationFailedError):
        blind.describe_consumer_groups([group])
    with pytest.raises(confluent.KafkaException) as refusal:   # to see is not to move
        confluent.Consumer({**settings, **as_user(gateway, sees)}).commit(offsets=position, asynchronous=False)
    assert "AUTHORIZATION" in refusal.value.args[0].name()
    seeing.close()
    blind.close()
    python.delete_acls([everything()])


def test_offsets_are_seen_with_describe(gateway, python, user, unique):
    """What a topic has may be asked by who may see it; to read its records is another right."""
    topic, sees, nobody = create(gateway, unique("t")), user(), user()
    python.create_acls([of_kind(ResourceType.TOPIC, topic, sees, ACLOperation.DESCRIBE)])
    writer = confluent.Producer({"bootstrap.servers": address(gateway)})
    writer.produce(topic, b"x", partition=0)
    assert writer.flush(30) == 0
    here = confluent.TopicPartition(topic, 0, 0)

    def consumer(name):
        return confluent.Consumer({**as_user(gateway, name), "bootstrap.servers": address(gateway), "group.id": unique("g")})
    seeing, blind = consumer(sees), consumer(nobody)
    assert seeing.get_watermark_offsets(here, 30) == (0, 1)
    with pytest.raises(confluent.KafkaException):
        blind.get_watermark_offsets(here, 5)
    seeing.assign([here])
    refusal = seeing.poll(30)
    assert refusal is not None and refusal.error().name() == "TOPIC_AUTHORIZATION_FAILED"
    seeing.close()
    blind.close()
    python.delete_acls([everything()])


def test_what_belongs_to_a_vhost_goes_with_it(gateway, unique):
    vhost, name, group = unique("tenant"), unique("user"), unique("g")
    gateway.ctl("add_user", name, "pw")
    gateway.ctl("set_user_tags", name, "administrator")

    def make_vhost():
        gateway.ctl("add_vhost", vhost)
        gateway.ctl("set_permissions", "-p", vhost, name, ".*", ".*", ".*")

    make_vhost()
    admin = admin_of(gateway, name)   # may enter no other vhost
    admin.create_topics([python_admin.NewTopic("t", 1, 1)])
    assert not admin.create_acls([acl("User:x", "t")])["failed"]
    assert len(admin.describe_acls(everything())[0]) == 1
    settings = {**as_user(gateway, name), "bootstrap.servers": address(gateway), "group.id": group}
    consumer = confluent.Consumer(settings)
    consumer.commit(offsets=[confluent.TopicPartition("t", 0, 0)], asynchronous=False)
    consumer.close()
    producer = confluent.Producer({**as_user(gateway, name), "bootstrap.servers": address(gateway), "transactional.id": "tx"})
    producer.init_transactions(WAIT_S)
    producer.begin_transaction()
    producer.produce("t", b"open", partition=0)
    producer.flush(WAIT_S)
    assert group in [one for one, _ in admin.list_consumer_groups()]
    admin.close()
    del producer
    gateway.ctl("delete_vhost", vhost)
    make_vhost()
    admin = admin_of(gateway, name)
    assert admin.describe_acls(everything())[0] == []
    assert admin.list_consumer_groups() == []
    with Admin(gateway.ports["kafka"]) as raw:
        raw.login(name, "pw")
        assert raw.producer_epoch("tx") == 0   # never heard of
    admin.close()


def test_a_change_of_tags_holds_at_once(gateway, user):
    """On the connection that is there: an administrator becomes one, and is none any more."""
    name = user()
    with Admin(gateway.ports["kafka"]) as raw:
        raw.login(name, "pw")
        assert raw.set_quota({"user": "x"}, validate_only=True, producer_byte_rate=1.0)[0] == CLUSTER_DENIED
        gateway.ctl("set_user_tags", name, "administrator")
        assert raw.set_quota({"user": "x"}, validate_only=True, producer_byte_rate=1.0)[0] == NONE
        gateway.ctl("set_user_tags", name)
        assert raw.set_quota({"user": "x"}, validate_only=True, producer_byte_rate=1.0)[0] == CLUSTER_DENIED


def test_acls_that_mean_nothing_are_refused(python):
    wrong = [acl("alice", "t"), acl("User:a", "t", ACLOperation.CLUSTER_ACTION),
             acl("User:a", "other", ACLOperation.CREATE, kind=ResourceType.CLUSTER)]
    assert len(python.create_acls(wrong)["failed"]) == len(wrong)
    assert python.describe_acls(everything())[0] == []


# ---- quotas

def test_quotas_are_told(raw):
    assert raw.set_quota({"user": "a"}, producer_byte_rate=1000.0, consumer_byte_rate=2000.0) == (NONE, None)
    assert raw.set_quota({"user": "a", "client-id": None}, consumer_byte_rate=3000.0) == (NONE, None)
    assert raw.set_quota({"user": "b"}, validate_only=True, consumer_byte_rate=3000.0) == (NONE, None)
    of_a = ({"user": "a"}, {"producer_byte_rate": 1000.0, "consumer_byte_rate": 2000.0})
    both = ({"user": "a", "client-id": None}, {"consumer_byte_rate": 3000.0})
    order = lambda found: sorted(found, key=str)  # noqa: E731
    assert order(raw.quotas(("user", 0, "a"))) == order([of_a, both])
    assert raw.quotas(("user", 0, "a"), strict=True) == [of_a]
    assert raw.quotas(("user", 2, None), ("client-id", 1, None)) == [both]
    assert raw.quotas(("user", 0, "b")) == []
    assert raw.set_quota({"user": "a"}, producer_byte_rate=None, consumer_byte_rate=None) == (NONE, None)
    assert raw.set_quota({"user": "a", "client-id": None}, consumer_byte_rate=None) == (NONE, None)
    assert raw.quotas() == []


@pytest.mark.parametrize("entity, values", [
    ({}, {"producer_byte_rate": 1.0}),
    ({"ip": "127.0.0.1"}, {"connection_creation_rate": 1.0}),
    ({"user": "a"}, {"request_percentage": 50.0}),
    ({"user": "a"}, {"producer_byte_rate": 0.5}),
    ({"user": "a"}, {"producer_byte_rate": 1000.5}),
    ({"user": "a"}, {"producer_byte_rate": 1e19}),
    ({"user": "a"}, {"producer_byte_rate": float("nan")}),
    ({"user": "a"}, {"producer_byte_rate": -1.0}),
    ({"user": ""}, {"producer_byte_rate": 1.0}),
])
def test_quotas_that_are_refused(raw, entity, values):
    code, text = raw.set_quota(entity, **values)
    assert code == INVALID_REQUEST and text
    assert raw.quotas() == []


def throttled(gateway, topic, client_id, values):
    """The longest throttle time that the producer was told, in ms."""
    told = []
    producer = confluent.Producer({"bootstrap.servers": address(gateway), "client.id": client_id,
                                   "throttle_cb": lambda event: told.append(event.throttle_time)})
    for value in values:
        producer.produce(topic, value)
        producer.flush(WAIT_S)
    producer.poll(0)
    return max(told, default=0)


def test_a_quota_slows_down(gateway, raw, unique):
    topic, slow = create(gateway, unique("quota")), unique("slow")
    assert raw.set_quota({"client-id": slow}, producer_byte_rate=20000.0) == (NONE, None)
    assert throttled(gateway, topic, slow, [b"x" * 30000] * 2) > 0
    assert throttled(gateway, topic, unique("quick"), [b"x" * 30000] * 2) == 0
    assert raw.set_quota({"client-id": slow}, producer_byte_rate=None) == (NONE, None)
    assert throttled(gateway, topic, slow, [b"x" * 30000] * 2) == 0
