"""Apache Kafka's own command-line tools against the gateway: topics, configs, ACLs, log directories, deleting records, and the
SCRAM credentials and quotas that only they can set."""
import json
import os
import subprocess

import pytest
from conftest import kafka_gateway
from mqtest.cache import INSTALL_S, cached, run_installer

RUN_S = 240
pytestmark = [pytest.mark.long, pytest.mark.timeout(INSTALL_S + RUN_S)]  # virtual machines start slowly

VERSION = "3.9.1"
ARTIFACTS = [f"org.apache.kafka:kafka_2.13:{VERSION}", f"org.apache.kafka:kafka-tools:{VERSION}",
             "org.slf4j:slf4j-nop:1.7.36"]
TOPICS, CONFIGS, ACLS = "org.apache.kafka.tools.TopicCommand", "kafka.admin.ConfigCommand", "kafka.admin.AclCommand"
LOG_DIRS, DELETE_RECORDS = "org.apache.kafka.tools.LogDirsCommand", "org.apache.kafka.tools.DeleteRecordsCommand"
WAIT_S = 60


@pytest.fixture(scope="module")
def jars():
    def fetch(folder):
        rows = "".join("<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>"
                       .format(*name.split(":")) for name in ARTIFACTS)
        (folder / "pom.xml").write_text(
            '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion><groupId>mqgate</groupId>'
            f"<artifactId>tools</artifactId><version>1</version><dependencies>{rows}</dependencies></project>")
        run_installer(["mvn", "-q", "-B", "-f", folder / "pom.xml", "dependency:copy-dependencies",
                       f"-DoutputDirectory={folder}"])

    return cached("kafkatools", ARTIFACTS, "https://repo.maven.apache.org/maven2/", fetch)


@pytest.fixture(scope="module")
def gateway(broker_kind):
    made = kafka_gateway().start()
    yield made
    try:
        assert made.stop(60) == 0
        made.check_log()
    finally:
        made.close()


@pytest.fixture
def run(gateway, jars):
    """run(class, arguments...) gives what the tool says; it must end well, unless fails is set."""
    def call(tool, *args, fails=False):
        done = subprocess.run(["java", "-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp", f"{jars}/*", tool, "--bootstrap-server",
                               f"127.0.0.1:{gateway.ports['kafka']}", *args], text=True, capture_output=True,
                              timeout=WAIT_S, env={**os.environ, "LC_ALL": "C"})
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done.stdout
    return call


def test_topics(run):
    assert "Created topic java-topics." in run(TOPICS, "--create", "--topic", "java-topics", "--partitions", "3", "--config",
                                               "retention.ms=5000", "--config", "cleanup.policy=compact,delete")
    described = run(TOPICS, "--describe", "--topic", "java-topics")
    assert "PartitionCount: 3" in described and "Configs: cleanup.policy=compact,delete,retention.ms=5000" in described
    assert "already exists" in run(TOPICS, "--create", "--topic", "java-topics", fails=True)
    run(TOPICS, "--alter", "--topic", "java-topics", "--partitions", "5")
    assert "PartitionCount: 5" in run(TOPICS, "--describe", "--topic", "java-topics")
    run(TOPICS, "--delete", "--topic", "java-topics")
    assert "java-topics" not in run(TOPICS, "--list")


def test_configs(run):
    run(TOPICS, "--create", "--topic", "java-configs", "--config", "retention.ms=5000")
    of_topic = ["--entity-type", "topics", "--entity-name", "java-configs"]
    run(CONFIGS, "--alter", *of_topic, "--add-config", "max.message.bytes=2000", "--delete-config", "retention.ms")
    told = run(CONFIGS, "--describe", *of_topic)
    assert "max.message.bytes=2000" in told and "retention.ms" not in told
    assert "message.max.bytes=1048588" in run(CONFIGS, "--describe", "--entity-type", "brokers", "--entity-name", "1", "--all")
    run(CONFIGS, "--alter", *of_topic, "--add-config", "no.such=1", fails=True)


def test_credentials_and_quotas(run, gateway, tmp_path):
    of_user = ["--entity-type", "users", "--entity-name", "java-alice"]
    run(CONFIGS, "--alter", *of_user, "--add-config", "SCRAM-SHA-512=[iterations=8192,password=secret]")
    run(CONFIGS, "--alter", *of_user, "--add-config", "producer_byte_rate=1024")
    told = run(CONFIGS, "--describe", *of_user)
    assert "producer_byte_rate=1024.0" in told and "SCRAM-SHA-512=iterations=8192" in told
    run(CONFIGS, "--alter", "--entity-type", "clients", "--entity-default", "--add-config", "consumer_byte_rate=2048")
    assert "consumer_byte_rate=2048.0" in run(CONFIGS, "--describe", "--entity-type", "clients", "--entity-default")
    settings = tmp_path / "client.properties"
    login = ("security.protocol=SASL_PLAINTEXT\nsasl.mechanism=SCRAM-SHA-512\nsasl.jaas.config=org.apache.kafka.common.security."
             'scram.ScramLoginModule required username="java-alice" password="{}";\n')
    settings.write_text(login.format("secret"))
    run(TOPICS, "--create", "--topic", "java-secret")
    assert "java-secret" not in run(TOPICS, "--list", "--command-config", str(settings))  # in, without a right to see it
    run(ACLS, "--add", "--allow-principal", "User:java-alice", "--operation", "Describe", "--topic", "java-secret")
    assert "java-secret" in run(TOPICS, "--list", "--command-config", str(settings))
    run(ACLS, "--remove", "--force", "--topic", "java-secret")
    settings.write_text(login.format("wrong"))
    run(TOPICS, "--list", "--command-config", str(settings), fails=True)
    run(CONFIGS, "--alter", *of_user, "--delete-config", "SCRAM-SHA-512")
    assert "SCRAM" not in run(CONFIGS, "--describe", *of_user)


def test_acls(run):
    allow = ["--allow-principal", "User:bob", "--operation", "Read", "--operation", "Write", "--topic", "java-acl",
             "--resource-pattern-type", "prefixed"]
    run(ACLS, "--add", *allow)
    told = run(ACLS, "--list", "--topic", "java-acl-1", "--resource-pattern-type", "match")
    assert "name=java-acl, patternType=PREFIXED" in told and "operation=READ" in told and "operation=WRITE" in told
    run(ACLS, "--remove", "--force", *allow)
    assert "java-acl" not in run(ACLS, "--list")


def test_what_is_stored(run, tmp_path):
    run(TOPICS, "--create", "--topic", "java-store", "--partitions", "2")
    dirs = json.loads(run(LOG_DIRS, "--describe", "--topic-list", "java-store").splitlines()[-1])
    (found,) = dirs["brokers"][0]["logDirs"]
    assert {row["partition"] for row in found["partitions"]} == {"java-store-0", "java-store-1"}
    offsets = tmp_path / "offsets.json"
    offsets.write_text('{"version": 1, "partitions": [{"topic": "java-store", "partition": 0, "offset": -1}]}')
    assert "partition: java-store-0	low_watermark: 0" in run(DELETE_RECORDS, "--offset-json-file", str(offsets))
