"""librdkafka's own suite against one broker: every test of it that wants a broker, each in a process of its own.

The suite is built once and kept beside its source, with one change: where a test asks for topics of three replicas it gets them
with one, on both brokers alike. It calls Apache Kafka's command-line tools through KAFKA_PATH; those come from Maven. Several
tests run at once, since most of them wait most of the time. Those that are left out are in APART, each with its reason.
"""
import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from mqtest import broker as brokers
from mqtest import cache
from mqtest.apache_kafka import ApacheKafka
from sources import PEERS, Unreachable
from suites import FAILED, PASSED, SKIPPED, Suite

TOOLS = ("org.apache.kafka:kafka_2.13:3.9.1", "org.apache.kafka:kafka-tools:3.9.1", "org.slf4j:slf4j-nop:1.7.36")
CLASSES = {"kafka-topics.sh": "org.apache.kafka.tools.TopicCommand", "kafka-acls.sh": "kafka.admin.AclCommand"}
JAVA = "java -Xmx128m -XX:TieredStopAtLevel=1"
PARTITIONS = 4   # of topics that are made by being asked for; the suite's scenarios want so
AT_ONCE = 4
BUILD_S, TEST_S = 1200, 420
REPLICAS = (r"(void test_admin_create_topic\(.*?rd_kafka_NewTopic_new\(topicname, partition_cnt, )replication_factor", r"\g<1>1")
ALONE = {"0055"}  # measures times
TWO_OF_A_NUMBER = {"0045_subscribe_update_non_exist_and_partchange": "do_test_non_exist",
                   "0045_subscribe_update_topic_remove": "do_test_topic"}
IN_PARTS = {"0081": "0081-admin.c"}
LISTED = re.compile(r"^\s*_TEST\((\d{4})_(\w+),(.*?)(?=^\s*_TEST\(|^#|^\s*/\*|^};)", re.M | re.S)

APART = {
    r"0101_fetch_from_follower": "needs three brokers in two racks",
    r"0126_oauthbearer_oidc": "needs a server of OpenID tokens",
    r"0097_ssl_verify": "needs a certificate of the client in a store of PKCS#12, made by its cluster's scripts",
    r"0028_long_topicnames|0047_partial_buf_tmout": "a known fault of librdkafka, by its own list",
}


class Test(NamedTuple):
    number: str
    part: str       # a part of it that runs alone, or ""
    name: str
    scenario: str


def listed(source: Path):
    """Each test that wants a broker."""
    text = (source / "tests/test.c").read_text()
    for number, name, words in LISTED.findall(text[text.index("struct test tests[]"):]):
        if "TEST_F_LOCAL" in words or "TEST_F_MANUAL" in words:
            continue
        scenario = re.search(r'scenario = "([^"]*)"', words)
        scenario = scenario.group(1).split(",")[0] if scenario else "default"
        name = f"{number}_{name}"
        for part in sorted(parts(source, number)):
            yield Test(number, part, f"{name} {part}", scenario)
        if number not in IN_PARTS:
            yield Test(number, TWO_OF_A_NUMBER.get(name, ""), name, scenario)


def parts(source, number):
    """The parts of a test that is many tests, so that one that fails does not hide the others."""
    if number not in IN_PARTS:
        return []
    text = (source / "tests" / IN_PARTS[number]).read_text()
    return {part for part, body in re.findall(r"^static void (do_test_\w+)\((.*?)^}", text, re.M | re.S) if "SUB_TEST" in body}


class Rdkafka(Suite):
    name, package, version = "librdkafka", "librdkafka", "2.0.2-1"
    reference = "kafka"
    needs = [("which g++ make", "g++ make"), ("which mvn javac", "maven openjdk-17-jdk-headless"),
             ("/usr/bin/python3 -c 'import kafka'", "python3-kafka")]
    limit_s = 2400
    apart = APART

    def missing(self):
        why = super().missing() or ApacheKafka.missing()
        if not why:
            cache.maven_tree(*TOOLS)  # the suite itself runs where there is no network
        return why

    def prepare(self, source, scratch):
        built = PEERS / f"built-{self.package}_{self.version}"
        if not (built / "tests/test-runner").exists():
            shutil.rmtree(built, ignore_errors=True)
            shutil.copytree(source, built, symlinks=True)
            main = built / "tests/test.c"
            text, count = re.subn(*REPLICAS, main.read_text(), count=1, flags=re.S)
            if count != 1:
                raise Unreachable("tests/test.c is not as expected")
            main.write_text(text)
            script = "./configure --disable-gssapi && make -j2 libs && make -j2 -C tests build"
            with open(scratch / "build.log", "w") as log:
                subprocess.run(["sh", "-c", script], cwd=built, stdout=log, stderr=log, check=True, timeout=BUILD_S)
        return built

    def broker(self, which, source, scenario="default"):
        if which == "kafka":
            return ApacheKafka({"num.partitions": PARTITIONS, "auto.create.topics.enable": str(scenario == "default").lower(),
                                "message.max.bytes": 1048588, "group.initial.rebalance.delay.ms": 3000,
                                "allow.everyone.if.no.acl.found": "true",
                                "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer"})
        return brokers.Gateway({"listeners.kafka": "127.0.0.1:0", "kafka.partitions": str(PARTITIONS),
                                "kafka.auto_create": "on" if scenario == "default" else "off",
                                "kafka.anonymous_user": "suite"})

    def ready(self, broker, tools):
        """Whoever does not log in may do what Kafka lets everybody do where no ACL stands: all, unless an ACL says no."""
        if isinstance(broker, ApacheKafka):
            return
        broker.ctl("add_user", "suite", "suite")
        broker.ctl("set_permissions", "-p", "/", "suite", ".*", ".*", ".*")
        login = tools / "admin.properties"
        login.write_text("security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\nsasl.jaas.config=org.apache.kafka.common.security."
                         'plain.PlainLoginModule required username="guest" password="guest";\n')
        subprocess.run([tools / "bin/kafka-acls.sh", "--bootstrap-server", address(broker), "--command-config", login, "--add",
                        "--allow-principal", "User:suite", "--operation", "All", "--cluster"], check=True,
                       stdout=subprocess.DEVNULL, timeout=60)

    def tools(self, scratch):
        """A folder with the face of Apache Kafka's release, for KAFKA_PATH."""
        jars, tools = cache.maven_tree(*TOOLS), scratch / "kafka"
        (tools / "bin").mkdir(parents=True)
        (tools / "libs").symlink_to(Path(jars.split(":")[0]).parent)
        scripts = {name: f'{JAVA} -cp "{jars}" {tool} "$@"' for name, tool in CLASSES.items()}
        scripts["kafka-run-class.sh"] = f'{JAVA} -cp "$CLASSPATH:{jars}" "$@"'
        for name, command in scripts.items():
            path = tools / "bin" / name
            path.write_text(f"#!/bin/sh\nexec {command}\n")
            path.chmod(0o755)
        return tools

    def run(self, source, scratch, broker, env):
        tools = self.tools(scratch)
        tests = [test for test in listed(source) if self.wanted(test.name)]
        results = {test.name: SKIPPED for test in tests if self.reason_apart(test.name)}
        subprocess.run(["make", "-s", "java"], cwd=source / "tests", check=True, env={**env, "KAFKA_PATH": str(tools)})
        for scenario in ("default", "noautocreate"):
            here = [test for test in tests if test.scenario == scenario and test.name not in results]
            if not here:
                continue
            server = broker if scenario == "default" else self.broker("kafka" if isinstance(broker, ApacheKafka) else "mqgate",
                                                                      source, scenario)
            try:
                if server is not broker:
                    server.start()
                self.ready(server, tools)
                results.update(self.run_tests(source, scratch, server, env, tools, scenario, here))
            finally:
                if server is not broker:
                    shutil.copy(server.log_path, scratch / f"broker-{scenario}.log")
                    server.close()
        return results

    @staticmethod
    def wanted(name):
        only = os.environ.get("MQGATE_PEER_TESTS")
        return not only or re.search(only, name)

    def run_tests(self, source, scratch, broker, env, tools, scenario, tests):
        conf = scratch / f"{scenario}.conf"
        conf.write_text(f"bootstrap.servers={address(broker)}\ntest.timeout.multiplier=3\n")
        env = {**env, "KAFKA_PATH": str(tools), "BROKERS": address(broker), "TEST_KAFKA_VERSION": "3.9.1", "TEST_LEVEL": "2",
               "RDKAFKA_TEST_CONF": str(conf), "LD_LIBRARY_PATH": f"{source}/src:{source}/src-cpp", "TEST_SCENARIO": scenario}
        keys, said = sorted({(test.number, test.part) for test in tests}), {}
        for at_once, some in ((AT_ONCE, [key for key in keys if key[0] not in ALONE]), (1, [key for key in keys if key[0] in ALONE])):
            with ThreadPoolExecutor(at_once) as pool:
                said.update(zip(some, pool.map(lambda key: self.run_test(source, scratch, {**env, "TESTS": key[0]}, key[1]), some)))
        return {test.name: said[test.number, test.part].get(test.name.split()[0], FAILED) for test in tests}

    def run_test(self, source, scratch, env, part):
        """{name: outcome} of the tests of this number, as far as the run got."""
        log = scratch / f"{env['TEST_SCENARIO']}-{env['TESTS']}{part}.log"
        with open(log, "w") as out:
            try:
                subprocess.run(["./test-runner", "-p1", "-L"], cwd=source / "tests", stdout=out, stderr=out, timeout=TEST_S,
                               stdin=subprocess.DEVNULL, env={**env, **({"SUBTESTS": part} if part else {})})
            except subprocess.TimeoutExpired:
                out.write(f"\nnot within {TEST_S} s\n")
        words = {"PASSED": PASSED, "SKIPPED": SKIPPED}
        said = re.findall(r"^\|\S*\s+(\d{4}_\w+)\s+\|\s+(\w+) \|", log.read_text(errors="replace"), re.M)
        return {name: words.get(state, FAILED) for name, state in said}


def address(broker):
    return f"127.0.0.1:{broker.ports['kafka']}"
