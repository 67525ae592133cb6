"""Consumer groups with real clients: librdkafka (kcat, confluent-kafka) and kafka-python."""
import subprocess
import threading

import confluent_kafka as confluent
import kafka as kafka_python
import pytest
from conftest import kafka_gateway
from mqtest.broker import wait_until

WAIT_S = 50


def bootstrap(gateway):
    return f"127.0.0.1:{gateway.ports['kafka']}"


@pytest.fixture(scope="module")
def groups(broker_kind):
    """A gateway where groups do not wait for more members, topics have four partitions and sessions may be short."""
    made = kafka_gateway(kafka__group_initial_rebalance_delay="0s", kafka__partitions=4,
                         kafka__group_min_session_timeout="1s").start()
    yield made
    try:
        assert made.stop(60) == 0
        made.check_log()
    finally:
        made.close()


def kcat(gateway, *args, stdin="", timeout_s=WAIT_S):
    done = subprocess.run(["kcat", "-b", bootstrap(gateway), *args], input=stdin, text=True, capture_output=True,
                          timeout=timeout_s)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def produce(gateway, topic, first, last):
    kcat(gateway, "-P", "-t", topic, "-K:", stdin="".join(f"k{i}:v{i}\n" for i in range(first, last)))


def consumer(gateway, group, **more):
    return confluent.Consumer({"bootstrap.servers": bootstrap(gateway), "group.id": group,
                               "auto.offset.reset": "earliest", "session.timeout.ms": 6000,
                               "heartbeat.interval.ms": 500, "enable.auto.commit": False,
                               **{key if key == "error_cb" else key.replace("_", "."): value
                                  for key, value in more.items()}})


class Reader(threading.Thread):
    """A consumer that polls until told to stop; what it got, and what it is assigned, can be looked at."""

    def __init__(self, gateway, group, topic, **more):
        super().__init__(daemon=True)
        self.topic, self.got, self.errors, self.over = topic, [], [], threading.Event()
        self.consumer = consumer(gateway, group, error_cb=self.errors.append, **more)
        self.start()

    def run(self):
        self.consumer.subscribe([self.topic])
        while not self.over.is_set():
            message = self.consumer.poll(0.1)
            if message is not None and message.error() is not None:
                self.errors.append(message.error())
            elif message is not None:
                self.got.append(message.value().decode())
                self.consumer.commit(message, asynchronous=True)
        self.consumer.close()

    def assigned(self):
        return {p.partition for p in self.consumer.assignment()} if not self.over.is_set() else set()

    def stop(self):
        self.over.set()
        self.join(WAIT_S)
        assert not self.is_alive()


@pytest.fixture
def reader(groups):
    made = []

    def make(*args, **more):
        made.append(Reader(groups, *args, **more))
        return made[-1]

    yield make
    for one in made:
        if one.is_alive():
            one.stop()


def shared_evenly(readers):
    sets = [one.assigned() for one in readers]
    return sum(map(len, sets)) == 4 and len(set().union(*sets)) == 4 and all(sets)


@pytest.mark.timeout(120)
def test_kcat_continues_where_it_stopped(groups, unique):
    topic, group = unique("t"), unique("g")
    produce(groups, topic, 0, 50)
    first = kcat(groups, "-G", group, "-X", "auto.offset.reset=earliest", "-c", "50", topic)
    assert sorted(first) == sorted(f"v{i}" for i in range(50))
    produce(groups, topic, 50, 60)
    second = kcat(groups, "-G", group, "-X", "auto.offset.reset=earliest", "-c", "10", topic)
    assert sorted(second) == sorted(f"v{i}" for i in range(50, 60))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("strategy", ["range", "cooperative-sticky"])
def test_two_share_and_one_takes_over(groups, unique, reader, strategy):
    topic, group = unique("t"), unique("g")
    produce(groups, topic, 0, 40)
    how = {"partition_assignment_strategy": strategy}
    a, b = reader(group, topic, **how), reader(group, topic, **how)
    wait_until(lambda: shared_evenly([a, b]), WAIT_S, "both have partitions")
    produce(groups, topic, 40, 80)
    wait_until(lambda: len(set(a.got + b.got)) == 80, WAIT_S, "all is read")
    b.stop()
    wait_until(lambda: len(a.assigned()) == 4, WAIT_S, "the other takes over")
    produce(groups, topic, 80, 90)
    wait_until(lambda: set(f"v{i}" for i in range(80, 90)) <= set(a.got), WAIT_S, "it reads on")
    assert sorted(set(a.got + b.got)) == sorted(f"v{i}" for i in range(90))


@pytest.mark.timeout(120)
def test_a_member_that_dies_is_replaced(groups, unique, reader):
    topic, group = unique("t"), unique("g")
    produce(groups, topic, 0, 4)
    victim = subprocess.Popen(["kcat", "-b", bootstrap(groups), "-G", group, "-X", "session.timeout.ms=5000",
                               "-X", "heartbeat.interval.ms=300", topic], stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL)
    admin = kafka_python.KafkaAdminClient(bootstrap_servers=bootstrap(groups), api_version=(2, 5, 0))
    try:
        wait_until(lambda: admin.describe_consumer_groups([group])[0].state == "Stable", WAIT_S, "it is alone")
        survivor = reader(group, topic)
        wait_until(lambda: len(survivor.assigned()) == 2, WAIT_S, "they share")
        members = admin.describe_consumer_groups([group])[0].members
        assert len(members) == 2 and all(m.client_host == "/127.0.0.1" for m in members)
    finally:
        victim.kill()
        victim.wait()
        admin.close()
    wait_until(lambda: len(survivor.assigned()) == 4, WAIT_S, "the dead one's partitions")


@pytest.mark.timeout(120)
def test_a_static_member_comes_back_unnoticed(groups, unique, reader):
    topic, group = unique("t"), unique("g")
    produce(groups, topic, 0, 4)
    a = reader(group, topic, group_instance_id="a")
    b = reader(group, topic, group_instance_id="b")
    wait_until(lambda: shared_evenly([a, b]), WAIT_S, "both have partitions")
    had = b.assigned()
    admin = kafka_python.KafkaAdminClient(bootstrap_servers=bootstrap(groups), api_version=(2, 5, 0))
    b.stop()      # a static member does not say that it leaves
    assert admin.describe_consumer_groups([group])[0].state == "Stable"
    again = reader(group, topic, group_instance_id="b")
    wait_until(lambda: again.assigned() == had, WAIT_S, "the same partitions")
    admin.close()


@pytest.mark.timeout(120)
def test_a_second_of_the_same_instance_fences_the_first(groups, unique, reader):
    topic, group = unique("t"), unique("g")
    produce(groups, topic, 0, 4)
    first = reader(group, topic, group_instance_id="i")
    wait_until(lambda: len(first.assigned()) == 4, WAIT_S, "it has all")
    second = reader(group, topic, group_instance_id="i")
    wait_until(lambda: len(second.assigned()) == 4, WAIT_S, "the second has all")
    wait_until(lambda: first.errors and not first.assigned(), WAIT_S, "the first is told")
    assert "FENCED_INSTANCE_ID" in str(first.errors) or "_FATAL" in str(first.errors)


@pytest.mark.timeout(120)
def test_positions_survive_kill9(own_gateway, unique):
    gateway = own_gateway(kafka__group_initial_rebalance_delay="0s", kafka__partitions=2)
    topic, group = unique("t"), unique("g")
    produce(gateway, topic, 0, 20)
    assert len(kcat(gateway, "-G", group, "-X", "auto.offset.reset=earliest", "-c", "20", topic)) == 20
    gateway.settings["listeners.kafka"] = bootstrap(gateway)
    gateway.kill9()
    gateway.start()
    admin = kafka_python.KafkaAdminClient(bootstrap_servers=bootstrap(gateway), api_version=(2, 5, 0))
    assert (group, "consumer") in admin.list_consumer_groups()
    rows = admin.list_consumer_group_offsets(group)
    assert sum(row.offset for row in rows.values()) == 20 and len(rows) == 2
    admin.close()
    produce(gateway, topic, 20, 23)
    got = kcat(gateway, "-G", group, "-X", "auto.offset.reset=earliest", "-c", "3", topic)
    assert sorted(got) == ["v20", "v21", "v22"]


@pytest.mark.timeout(120)
def test_members_go_on_after_kill9(own_gateway, unique):
    gateway = own_gateway(kafka__group_initial_rebalance_delay="0s", kafka__partitions=2)
    topic, group = unique("t"), unique("g")
    produce(gateway, topic, 0, 10)
    member = Reader(gateway, group, topic)
    try:
        wait_until(lambda: len(set(member.got)) == 10, WAIT_S, "all is read")
        gateway.settings["listeners.kafka"] = bootstrap(gateway)
        gateway.kill9()
        gateway.start()
        produce(gateway, topic, 10, 20)
        wait_until(lambda: len(set(member.got)) == 20, WAIT_S, "it reads on")
    finally:
        member.stop()


# ---- what operators do ------------------------------------------------------------------------------------------------


@pytest.fixture
def admin(groups):
    made = kafka_python.KafkaAdminClient(bootstrap_servers=bootstrap(groups), api_version=(2, 5, 0))
    yield made
    made.close()


def test_groups_are_listed_described_and_deleted(groups, unique, reader, admin):
    topic, group = unique("t"), unique("g")
    produce(groups, topic, 0, 4)
    member = reader(group, topic)
    wait_until(lambda: len(set(member.got)) == 4, WAIT_S, "all is read")
    assert (group, "consumer") in admin.list_consumer_groups()
    described = admin.describe_consumer_groups([group])[0]
    assert (described.state, described.protocol_type, described.protocol) == ("Stable", "consumer", "range")
    assert described.members[0].member_metadata.subscription == [topic]
    assert sorted(described.members[0].member_assignment.assignment[0][1]) == [0, 1, 2, 3]
    assert admin.delete_consumer_groups([group])[0][1] is kafka_python.errors.NonEmptyGroupError
    member.stop()
    assert admin.describe_consumer_groups([group])[0].state == "Empty"
    assert admin.delete_consumer_groups([group])[0][1] is kafka_python.errors.NoError
    assert group not in [name for name, _ in admin.list_consumer_groups()]
    assert admin.describe_consumer_groups([group])[0].state == "Dead"
    assert admin.list_consumer_group_offsets(group) == {}
    gone = admin.delete_consumer_groups([group])[0][1]
    assert gone is kafka_python.errors.GroupIdNotFoundError


def test_a_client_without_a_group_commits_and_fetches(groups, unique):
    topic, group = unique("t"), unique("g")
    produce(groups, topic, 0, 4)
    one = consumer(groups, group)
    where = confluent.TopicPartition(topic, 2, 17)
    assert one.commit(offsets=[where], asynchronous=False)[0].offset == 17
    rows = one.committed([confluent.TopicPartition(topic, p) for p in (2, 3)], timeout=WAIT_S)
    assert [row.offset for row in rows] == [17, confluent.OFFSET_INVALID]
    with pytest.raises(confluent.KafkaException):
        one.commit(offsets=[confluent.TopicPartition(topic, 99, 1)], asynchronous=False)
    one.close()


@pytest.mark.parametrize("version", [(0, 9), (0, 10, 1), (0, 11), (1, 0, 0), (2, 0, 0), (2, 5, 0)])
def test_old_versions_of_the_protocol(groups, unique, version):
    """kafka-python joins and commits as clients of that time did."""
    topic, group = unique("t"), unique("g")
    produce(groups, topic, 0, 8)
    one = kafka_python.KafkaConsumer(topic, bootstrap_servers=bootstrap(groups), group_id=group, api_version=version,
                                     enable_auto_commit=False, session_timeout_ms=10000)
    wait_until(lambda: one.poll(timeout_ms=50) is not None and len(one.assignment()) == 4, WAIT_S, "it joins")
    one.commit({where: kafka_python.structs.OffsetAndMetadata(5, "note") for where in one.assignment()})
    assert [one.committed(where) for where in one.assignment()] == [5] * 4
    one.close()


def test_positions_of_a_deleted_topic_are_gone(groups, unique, admin):
    topic, group = unique("t"), unique("g")
    produce(groups, topic, 0, 4)
    one = consumer(groups, group)
    one.commit(offsets=[confluent.TopicPartition(topic, 0, 3)], asynchronous=False)
    assert len(admin.list_consumer_group_offsets(group)) == 1
    admin.delete_topics([topic], timeout_ms=10000)
    assert admin.list_consumer_group_offsets(group) == {}
    produce(groups, topic, 0, 1)
    assert admin.list_consumer_group_offsets(group) == {}
    one.close()


def test_positions_expire(own_gateway, unique):
    gateway = own_gateway(kafka__offsets_retention="2s", kafka__offsets_retention_check_interval="200ms")
    topic, group = unique("t"), unique("g")
    produce(gateway, topic, 0, 1)
    one = consumer(gateway, group)
    one.commit(offsets=[confluent.TopicPartition(topic, 0, 1)], asynchronous=False)
    one.close()
    admin = kafka_python.KafkaAdminClient(bootstrap_servers=bootstrap(gateway), api_version=(2, 5, 0))
    wait_until(lambda: group not in [name for name, _ in admin.list_consumer_groups()], WAIT_S, "the group is gone")
    assert admin.list_consumer_group_offsets(group) == {}
    admin.close()
