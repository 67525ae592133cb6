"""Consumer groups with Apache Kafka's Java client and its command-line tool."""
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import end, kafka_gateway
from mqtest import cache

PROGRAM = Path(__file__).parent / "programs" / "ConsumerGroups.java"
RUN_S = 240
TOOL = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
CONSUMER = "org.apache.kafka.tools.consumer.ConsoleConsumer"

pytestmark = [pytest.mark.long, pytest.mark.timeout(cache.INSTALL_S + RUN_S)]


@pytest.fixture(scope="module")
def jars():
    for tool in ("mvn", "javac"):
        if not shutil.which(tool):
            pytest.skip(f"Java client: {tool} is not installed")
    return cache.maven_tree("org.apache.kafka:kafka-tools:4.1.0", "org.slf4j:slf4j-nop:1.7.36")


@pytest.fixture(scope="module")
def gateway(broker_kind):
    made = kafka_gateway(kafka__group_initial_rebalance_delay="0s", kafka__partitions=4,
                         kafka__consumer_group_heartbeat_interval="300ms").start()
    yield made
    end(made)


def bootstrap(gateway):
    return f"127.0.0.1:{gateway.ports['kafka']}"


@pytest.fixture
def java(jars, gateway):
    def run(*words):
        done = subprocess.run(["java", "-cp", jars, *map(str, words)], text=True, capture_output=True, timeout=RUN_S)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout
    return run


@pytest.mark.parametrize("scenario", ["share", "regex", "static", "both"])
def test_consumer_protocol(java, gateway, unique, scenario):
    assert java(PROGRAM, scenario, bootstrap(gateway), unique("g")).endswith("ok\n")


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_command_line(java, gateway, unique, protocol):
    topic, group = unique("t"), unique("g")
    done = subprocess.run(["kcat", "-b", bootstrap(gateway), "-P", "-t", topic, "-K:"], text=True, timeout=60,
                          input="".join(f"k{i}:v{i}\n" for i in range(100)))
    assert done.returncode == 0

    def groups(*words):
        return java(TOOL, "--bootstrap-server", bootstrap(gateway), *words)

    got = java(CONSUMER, "--bootstrap-server", bootstrap(gateway), "--topic", topic, "--group", group,
               "--from-beginning", "--max-messages", "100", "--timeout-ms", "60000",
               "--consumer-property", f"group.protocol={protocol}")
    assert sorted(got.split()) == sorted(f"v{i}" for i in range(100))
    listed = groups("--list", "--type")
    assert re.search(rf"{group}\s+{protocol}", listed, re.I), listed
    described = groups("--describe", "--group", group)
    assert sum(int(row.split()[3]) for row in described.splitlines() if topic in row) == 100, described
    assert "Empty" in groups("--describe", "--group", group, "--state")
    moved = groups("--reset-offsets", "--to-offset", "7", "--group", group, "--topic", topic, "--execute")
    assert moved.count(topic) == 4, moved
    forgot = groups("--delete-offsets", "--group", group, "--topic", f"{topic}:0,1")
    assert forgot.count("Successful") == 2, forgot
    assert "successful" in groups("--delete", "--group", group)
    assert group not in groups("--list")
