"""Apache Kafka's command-line tools of 4.1: console, verifiable, performance, compatibility, transactions, offsets. What they have to
say of topics, configurations, ACLs and groups is in test_java_admin.py and test_kafka_java_groups.py."""
import json
import re
import shutil
import subprocess
import time

import pytest
import test_kafka_compacted as compacted
from conftest import address, end, kafka_gateway
from confluent_kafka import Producer
from mqtest import cache

RUN_S = 120
TOOLS = "org.apache.kafka.tools."
COMPRESSIONS = ["none", "gzip", "snappy", "lz4", "zstd"]

pytestmark = [pytest.mark.long, pytest.mark.timeout(cache.INSTALL_S + RUN_S)]


@pytest.fixture(scope="module")
def jars():
    if not shutil.which("mvn"):
        pytest.skip("Apache Kafka's tools: mvn is not installed")
    return cache.maven_tree("org.apache.kafka:kafka-tools:4.1.0", "org.slf4j:slf4j-nop:1.7.36")


@pytest.fixture(scope="module")
def gateway(broker_kind):
    made = kafka_gateway(kafka__group_initial_rebalance_delay="0s", kafka__partitions=3).start()
    yield made
    end(made)


@pytest.fixture
def where(gateway):
    return address(gateway)


@pytest.fixture
def tool(jars, where):
    """tool(class, arguments...) gives what the tool says; it must end well."""
    def run(name, *words, stdin=None, server=("--bootstrap-server", where)):
        done = subprocess.run(["java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp", jars, TOOLS + name, *server, *map(str, words)],
                              text=True, capture_output=True, input=stdin, timeout=RUN_S)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout
    return run


@pytest.fixture
def topic(tool, unique):
    made = unique("tools")
    tool("TopicCommand", "--create", "--topic", made, "--partitions", 2)
    return made


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_console(tool, topic, compression):
    tool("ConsoleProducer", "--topic", topic, "--compression-codec", compression, "--property", "parse.key=true", "--property",
         "parse.headers=true", stdin="".join(f"a:{i},b:x\tkey{i}\tvalue {i}\n" for i in range(50)))
    got = tool("consumer.ConsoleConsumer", "--topic", topic, "--from-beginning", "--max-messages", 50, "--timeout-ms", 60000,
               *(word for name in ("key", "headers", "partition") for word in ("--property", f"print.{name}=true")))
    rows = [row.split("\t") for row in got.splitlines()]
    assert sorted(row[1:] for row in rows) == sorted([f"a:{i},b:x", f"key{i}", f"value {i}"] for i in range(50))
    assert {row[0] for row in rows} == {"Partition:0", "Partition:1"}


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_console_reads_compacted(tool, where, unique, compression):
    """What the store compressed again is read by Java's own codecs."""
    topic = compacted.make_topic(where, unique("compacted"))
    compacted.fill(where, topic, compression)
    deadline = time.monotonic() + RUN_S
    want, got = [], None
    while got is None or compacted.read_confluent(where, topic) != want:  # a pass came in between: Java may have seen what is new
        assert time.monotonic() < deadline, f"{len(want)} records are there"
        want = compacted.read_confluent(where, topic)
        if len(want) > compacted.RECORDS * 3 // 4:  # there was none yet
            continue
        got = tool("consumer.ConsoleConsumer", "--topic", topic, "--from-beginning", "--max-messages", len(want), "--timeout-ms", 20000,
                   "--property", "print.offset=true", "--property", "print.key=true")
    rows = [row.split("\t") for row in got.splitlines()]
    assert rows == [[f"Offset:{offset}", key.decode(), value.decode()] for offset, key, value in want]


@pytest.mark.parametrize("protocol", ["CLASSIC", "CONSUMER"])
def test_verifiable(tool, topic, unique, protocol):
    sent = [json.loads(row) for row in tool("VerifiableProducer", "--topic", topic, "--max-messages", 500).splitlines()]
    assert sent[-1]["acked"] == sent[-1]["sent"] == 500
    acked = {(row["partition"], row["offset"]): row["value"] for row in sent if row["name"] == "producer_send_success"}
    assert len(acked) == 500
    said = [json.loads(row) for row in tool("VerifiableConsumer", "--topic", topic, "--group-id", unique("g"), "--verbose",
                                            "--max-messages", 500, "--group-protocol", protocol).splitlines()]
    assert {(row["partition"], row["offset"]): row["value"] for row in said if row["name"] == "record_data"} == acked
    commits = [row for row in said if row["name"] == "offsets_committed"]
    assert commits and all(row["success"] for row in commits)
    assert sum(row["offset"] for row in commits[-1]["offsets"]) == 500


@pytest.mark.parametrize("words", [[], ["--transactional-id", "perf", "--transaction-duration-ms", "20"]], ids=["plain", "transactions"])
def test_performance(tool, topic, where, words):
    told = tool("ProducerPerformance", "--topic", topic, "--num-records", 20000, "--record-size", 100, "--throughput", -1, *words,
                "--producer-props", "acks=all", f"bootstrap.servers={where}", server=())
    assert "20000 records sent" in told
    told = tool("ConsumerPerformance", "--topic", topic, "--messages", 20000, "--timeout", 60000)
    assert int(told.splitlines()[-1].split(",")[4]) == 20000, told


def test_end_to_end_latency(tool, topic, where):
    told = tool("EndToEndLatency", where, topic, 200, "all", 100, server=())
    assert re.search(r"Avg latency: \d+\.\d+ ms", told)


def test_client_compatibility(tool, unique):
    """What Apache Kafka's system tests ask of a broker of the client's own version."""
    tool("ClientCompatibilityTest", "--topic", unique("compatible"), "--num-cluster-nodes", 1,
         "--expect-record-too-large-exception", False,
         *(word for what in ("offsets-for-times", "cluster-id", "create-topics", "describe-acls", "describe-configs",
                             "idempotent-producer") for word in (f"--{what}-supported", True)))


def test_offsets(tool, topic, where):
    producer = Producer({"bootstrap.servers": where})
    for i in range(30):
        producer.produce(topic, str(i), partition=i % 3 // 2, timestamp=1_700_000_000_000 + i)
    assert producer.flush(30) == 0

    def offsets(*words):
        return [tuple(row.split(":")) for row in tool("GetOffsetShell", "--topic", topic, *words).splitlines()]

    assert offsets() == [(topic, "0", "20"), (topic, "1", "10")]
    assert offsets("--time", "earliest") == [(topic, "0", "0"), (topic, "1", "0")]
    assert offsets("--time", "max-timestamp", "--partitions", "1") == [(topic, "1", "9")]
    assert offsets("--time", 1_700_000_000_000 + 15) == [(topic, "0", "10"), (topic, "1", "5")]


def test_broker(tool, where):
    versions = tool("BrokerApiVersionsCommand")
    assert versions.startswith(f"{where} (id: 1 rack: null isFenced: false) -> (") and "UNKNOWN" not in versions, versions
    for api in ("Produce(0)", "Fetch(1)", "ConsumerGroupHeartbeat(68)", "EndTxn(26)"):
        assert re.search(re.escape(api) + r": \d+ to \d+ \[usable: \d+\]", versions), versions
    assert re.fullmatch(r"Cluster ID: [\w-]{22}\n", tool("ClusterTool", "cluster-id", "--bootstrap-server", where, server=()))
    assert re.search(r"^1\s+127.0.0.1\s", tool("ClusterTool", "list-endpoints", "--bootstrap-server", where, server=()), re.M)


def test_transactions(tool, topic, where, unique):
    """An open transaction is listed, described, found in its partition, and rolled back by its first offset."""
    name = unique("tx")
    producer = Producer({"bootstrap.servers": where, "transactional.id": name})
    producer.init_transactions(30)
    producer.begin_transaction()
    for i in range(3):
        producer.produce(topic, str(i), partition=1)
    assert producer.flush(30) == 0
    assert re.search(rf"^{name}\s+1\s+\d+\s+Ongoing", tool("TransactionsCommand", "list"), re.M)
    told = tool("TransactionsCommand", "describe", "--transactional-id", name)
    assert "Ongoing" in told and f"{topic}-1" in told, told
    of_partition = ["--topic", topic, "--partition", 1]
    assert tool("TransactionsCommand", "describe-producers", *of_partition).splitlines()[1].split()[-1] == "0"
    assert name not in tool("TransactionsCommand", "find-hanging", "--broker-id", 1)
    tool("TransactionsCommand", "abort", *of_partition, "--start-offset", 0)
    assert tool("TransactionsCommand", "describe-producers", *of_partition).splitlines()[1].split()[-1] == "None"


def test_console_consumer_commits(tool, topic, where, unique):
    """A reader that goes on where its group was; read_committed sees what was committed."""
    group, name = unique("g"), unique("tx")
    producer = Producer({"bootstrap.servers": where, "transactional.id": name})
    producer.init_transactions(30)
    for last, end_it in (("one", producer.commit_transaction), ("two", producer.abort_transaction),
                         ("three", producer.commit_transaction)):
        producer.begin_transaction()
        producer.produce(topic, last, partition=0)
        end_it(30)
    words = ["--topic", topic, "--group", group, "--max-messages", 1, "--timeout-ms", 60000, "--isolation-level", "read_committed"]
    assert tool("consumer.ConsoleConsumer", *words, "--from-beginning") == "one\n"
    assert tool("consumer.ConsoleConsumer", *words) == "three\n"
