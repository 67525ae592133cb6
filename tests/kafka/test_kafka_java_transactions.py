"""Transactions with Apache Kafka's Java client, and Kafka Streams with exactly_once_v2."""
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from conftest import end, kafka_gateway
from mqtest import cache

PROGRAMS = Path(__file__).parent / "programs"
RUN_S = 240

pytestmark = [pytest.mark.long, pytest.mark.timeout(cache.INSTALL_S + RUN_S)]


@pytest.fixture(scope="module")
def jars():
    for tool in ("mvn", "javac"):
        if not shutil.which(tool):
            pytest.skip(f"Java client: {tool} is not installed")
    return cache.maven_tree("org.apache.kafka:kafka-streams:4.1.0", "org.slf4j:slf4j-nop:1.7.36")


@pytest.fixture(scope="module")
def gateway(broker_kind):
    made = kafka_gateway(kafka__group_initial_rebalance_delay="0s").start()
    yield made
    end(made)


def java(jars, *words):
    done = subprocess.run(["java", "-cp", jars, *map(str, words)], text=True, capture_output=True, timeout=RUN_S)
    assert done.returncode == 0 and done.stdout.endswith("ok\n"), done.stdout[-3000:] + done.stderr[-3000:]


def test_transactions(jars, gateway, unique):
    java(jars, PROGRAMS / "Transactions.java", f"127.0.0.1:{gateway.ports['kafka']}", unique("t"))


def test_word_count_counts_each_word_once(jars, gateway, unique, tmp_path):
    bootstrap = {"bootstrap.servers": f"127.0.0.1:{gateway.ports['kafka']}"}
    lines, counts = unique("lines"), unique("counts")
    admin = AdminClient(bootstrap)
    for made in admin.create_topics([NewTopic(t, 1, 1) for t in (lines, counts)]).values():
        made.result(30)
    producer = Producer(bootstrap)
    for i in range(300):
        producer.produce(lines, f"every word{i % 7}".encode())
    producer.produce(lines, b"the-end")
    assert producer.flush(30) == 0
    java(jars, PROGRAMS / "WordCount.java", bootstrap["bootstrap.servers"], lines, counts, tmp_path)
    consumer = Consumer({**bootstrap, "group.id": unique("g"), "isolation.level": "read_committed",
                         "enable.partition.eof": True})
    consumer.assign([TopicPartition(counts, 0, 0)])
    seen = {}
    while True:
        message = consumer.poll(30)
        assert message is not None, "the counts have no end"
        if message.error():
            break
        seen.setdefault(message.key().decode(), []).append(struct.unpack(">q", message.value())[0])
    consumer.close()
    assert seen["every"] == list(range(1, 301))
    assert {word: len(of) for word, of in seen.items() if word.startswith("word")} == {
        f"word{k}": len(range(k, 300, 7)) for k in range(7)}
