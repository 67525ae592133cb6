"""Kafka Connect 4.1: file source and sink, standalone and distributed (its own topics here, exactly-once sources, a worker that is
killed), and MirrorMaker 2 from Apache Kafka to the gateway: how somebody comes who has a Kafka."""
import json
import shutil
import subprocess
from urllib import error, request

import pytest
from conftest import address, end, kafka_gateway
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic
from mqtest import cache
from mqtest.apache_kafka import ApacheKafka
from mqtest.broker import free_port, wait_until

RUN_S, WAIT_S = 300, 90
PARTS = ("connect-file", "connect-mirror", "connect-runtime")
CLI = "org.apache.kafka.connect."

pytestmark = [pytest.mark.long, pytest.mark.timeout(cache.INSTALL_S + RUN_S)]


@pytest.fixture(scope="module")
def jars():
    for tool in ("mvn", "java"):
        if not shutil.which(tool):
            pytest.skip(f"Kafka Connect: {tool} is not installed")
    return cache.maven_tree(*(f"org.apache.kafka:{part}:4.1.0" for part in PARTS), "org.slf4j:slf4j-simple:1.7.36")


@pytest.fixture(scope="module")
def gateway(broker_kind):
    made = kafka_gateway(kafka__group_initial_rebalance_delay="0s").start()
    yield made
    end(made)


class Worker:
    """A Java process that works until it is ended; its log is shown when it does not do what it should."""

    def __init__(self, jars, folder, *words):
        self.log = folder / f"worker{len(list(folder.iterdir()))}.log"
        with open(self.log, "w") as out:
            self.proc = subprocess.Popen(["java", "-Xmx512m", "-XX:TieredStopAtLevel=1", "-cp", jars, *map(str, words)],
                                         stdout=out, stderr=out, stdin=subprocess.DEVNULL, cwd=folder)

    def until(self, probe, what):
        def look():
            assert self.proc.poll() is None, self.log.read_text()[-4000:]
            return probe()
        try:
            return wait_until(look, WAIT_S, what, step_s=0.2)
        except TimeoutError:
            pytest.fail(f"{what}\n{self.log.read_text()[-6000:]}")

    def kill(self):
        self.proc.kill()
        self.proc.wait()


@pytest.fixture
def work(jars, tmp_path):
    """work(class, arguments...) starts a worker; all are ended after the test."""
    made = []

    def start(name, *words):
        made.append(Worker(jars, tmp_path, CLI + name, *words))
        return made[-1]

    yield start
    for worker in made:
        worker.kill()


def properties(path, **keys):
    path.write_text("".join(f"{key.replace('__', '-').replace('_', '.')}={value}\n" for key, value in keys.items()))
    return path


def text_worker(gateway):
    converter = "org.apache.kafka.connect.storage.StringConverter"
    return {"bootstrap_servers": address(gateway), "key_converter": converter, "value_converter": converter,
            "listeners": f"http://127.0.0.1:{free_port()}", "offset_flush_interval_ms": 500}


def source_of(path, topic):
    return {"connector.class": "FileStreamSource", "tasks.max": "1", "file": str(path), "topic": topic}


def sink_of(path, topic):
    return {"connector.class": "FileStreamSink", "tasks.max": "1", "file": str(path), "topics": topic}


def lines(path):
    return path.read_text().splitlines() if path.exists() else []


def test_standalone(gateway, work, unique, tmp_path):
    """A file becomes a topic, the topic a file; what is added to the file comes after."""
    before, after, topic = tmp_path / "before.txt", tmp_path / "after.txt", unique("file")
    before.write_text("".join(f"line {i}\n" for i in range(200)))
    settings = properties(tmp_path / "worker.properties", **text_worker(gateway), offset_storage_file_filename=tmp_path / "offsets")
    connectors = []
    for name, keys in (("source", source_of(before, topic)), ("sink", sink_of(after, topic))):
        connectors.append(tmp_path / f"{name}.properties")
        connectors[-1].write_text("".join(f"{key}={value}\n" for key, value in {"name": f"{topic}-{name}", **keys}.items()))
    worker = work("cli.ConnectStandalone", settings, *connectors)
    worker.until(lambda: len(lines(after)) >= 200, "the lines of the file")
    with open(before, "a") as more:
        more.write("the last\n")
    worker.until(lambda: "the last" in lines(after), "the line that was added")
    assert lines(after) == lines(before)


def call(url, method="GET", body=None):
    data = None if body is None else json.dumps(body).encode()
    asked = request.Request(url, data, {"content-type": "application/json"}, method=method)
    try:
        with request.urlopen(asked, timeout=60) as answer:
            return json.loads(answer.read() or "null")
    except error.HTTPError as refused:
        return {"refused": refused.code, "why": refused.read().decode()}
    except OSError:
        return None


def read_all(where, topic):
    """What a reader with read_committed finds in the topic's only partition."""
    consumer = Consumer({"bootstrap.servers": where, "group.id": "reader", "isolation.level": "read_committed",
                         "enable.partition.eof": True})
    consumer.assign([TopicPartition(topic, 0, 0)])
    got = []
    while True:
        message = consumer.poll(30)
        assert message is not None, f"{topic} has no end"
        if message.error():
            consumer.close()
            return got
        got.append(message)


def test_distributed(gateway, work, unique, tmp_path):
    """Configuration, positions and states in compacted topics here; the worker is killed, and the next one goes on: with
    exactly-once sources no line comes twice."""
    before, after, name = tmp_path / "before.txt", tmp_path / "after.txt", unique("connect")
    before.write_text("".join(f"line {i}\n" for i in range(500)))
    keys = text_worker(gateway)
    settings = properties(tmp_path / "worker.properties", **keys, group_id=name, exactly_once_source_support="enabled",
                          **{f"{what}_storage_topic": f"{name}-{what}" for what in ("config", "offset", "status")},
                          **{f"{what}_storage_replication_factor": 1 for what in ("config", "offset", "status")},
                          offset_storage_partitions=3, session_timeout_ms=6000, heartbeat_interval_ms=1000,
                          scheduled_rebalance_max_delay_ms=1000)
    api = keys["listeners"] + "/connectors"
    worker = work("cli.ConnectDistributed", settings)
    worker.until(lambda: call(api) == [], "a worker that serves")
    for part, config in (("source", source_of(before, f"{name}-lines")), ("sink", sink_of(after, f"{name}-lines"))):
        worker.until(lambda: "name" in call(f"{api}/{part}/config", "PUT", config), f"a worker that takes the {part}")
    worker.until(lambda: len(lines(after)) >= 500, "the lines of the file")
    worker.kill()
    with open(before, "a") as more:
        more.writelines(f"later {i}\n" for i in range(100))
    worker = work("cli.ConnectDistributed", settings)
    worker.until(lambda: len(set(lines(after))) >= 600, "the lines that were added")
    assert [m.value().decode() for m in read_all(address(gateway), f"{name}-lines")] == lines(before)
    offsets = ConfigResource(ConfigResource.Type.TOPIC, f"{name}-offset")
    admin = AdminClient({"bootstrap.servers": address(gateway)})
    told = admin.describe_configs([offsets])[offsets].result(30)
    assert told["cleanup.policy"].value == "compact"


@pytest.fixture
def apache_kafka():
    why = ApacheKafka.missing()
    if why:
        pytest.skip(why)
    made = ApacheKafka({"auto.create.topics.enable": "false"}).start()
    yield f"127.0.0.1:{made.ports['kafka']}"
    made.close()


def produce(where, topic, numbers):
    producer = Producer({"bootstrap.servers": where, "compression.type": "gzip"})
    for i in numbers:
        producer.produce(topic, f"value {i}", key=f"key {i}", headers=[("n", str(i))], timestamp=1_700_000_000_000 + i, partition=0)
    assert producer.flush(30) == 0


def test_mirror_maker(apache_kafka, gateway, work, unique, tmp_path):
    """Topics with their configuration, records and groups' positions come from Apache Kafka to the gateway, and a consumer goes
    on here where it was there."""
    topic, group, old = unique("mirrored"), unique("g"), {"bootstrap.servers": apache_kafka}
    there = AdminClient(old)
    there.create_topics([NewTopic(topic, 1, 1, config={"max.message.bytes": "700000"})])[topic].result(30)
    produce(apache_kafka, topic, range(300))
    consumer = Consumer({**old, "group.id": group})
    consumer.commit(offsets=[TopicPartition(topic, 0, 120)], asynchronous=False)
    consumer.close()
    settings = tmp_path / "mirror.properties"
    settings.write_text("\n".join([
        "clusters=old, new", f"old.bootstrap.servers={apache_kafka}", f"new.bootstrap.servers={address(gateway)}",
        "old->new.enabled=true", f"old->new.topics={topic}", f"old->new.groups={group}", "new->old.enabled=false",
        "replication.policy.class=org.apache.kafka.connect.mirror.IdentityReplicationPolicy", "replication.factor=1",
        "sync.group.offsets.enabled=true", "sync.group.offsets.interval.seconds=1", "emit.checkpoints.interval.seconds=1",
        "offset.lag.max=0", "refresh.topics.interval.seconds=2", "refresh.groups.interval.seconds=2",
        "sync.topic.configs.interval.seconds=2", "emit.heartbeats.interval.seconds=1",
        *(f"{what}.replication.factor=1" for what in ("checkpoints.topic", "heartbeats.topic", "offset-syncs.topic",
                                                      "offset.storage", "status.storage", "config.storage"))]) + "\n")
    worker = work("mirror.MirrorMaker", settings)
    new = {"bootstrap.servers": address(gateway)}
    admin = AdminClient(new)
    worker.until(lambda: topic in admin.list_topics(timeout=60).topics, "the topic")
    worker.until(lambda: len(read_all(address(gateway), topic)) >= 300, "300 records")
    produce(apache_kafka, topic, range(300, 400))
    worker.until(lambda: len(read_all(address(gateway), topic)) >= 400, "100 more")
    got = read_all(address(gateway), topic)
    assert [(m.key().decode(), m.value().decode(), m.headers(), m.timestamp()[1]) for m in got] == [
        (f"key {i}", f"value {i}", [("n", str(i).encode())], 1_700_000_000_000 + i) for i in range(400)]
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
    worker.until(lambda: admin.describe_configs([resource])[resource].result(30)["max.message.bytes"].value == "700000",
                 "the topic's configuration")
    reader = Consumer({**new, "group.id": group})
    worker.until(lambda: 0 < reader.committed([TopicPartition(topic, 0)], 30)[0].offset <= 120, "the group's position")
    reader.close()
