"""Public clients, unmodified: each runs a program of the tutorials' patterns against the broker.

A program prints "ok NAME" per pattern and ends with 0; each pattern is a test here. amqp-tools and bunny are
Debian packages and run always; kombu, amqplib and the Java client come from their registries (marked long).
"""
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mqtest import cache
from mqtest.broker import wait_until

PROGRAMS = Path(__file__).resolve().parent / "programs"
PATTERNS = ["work_queue", "publish_subscribe", "routing", "topics", "rpc", "confirms", "stream", "errors", "properties"]
RUN_S = 60
_runs = {}


def run_program(label, command, broker, env=None):
    """The program's output; it runs once per broker, whatever number of tests look at it."""
    if (label, broker.url) not in _runs:
        full = [str(part) for part in command] + [broker.url, label + str(broker.amqp_port)]
        try:
            done = subprocess.run(full, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  timeout=RUN_S)
        except subprocess.TimeoutExpired as late:
            done = subprocess.CompletedProcess(full, 124, f"{(late.stdout or b'').decode()}\nnot within {RUN_S} s")
        _runs[label, broker.url] = done
    return _runs[label, broker.url]


def check(done, pattern):
    assert f"ok {pattern}\n" in done.stdout, done.stdout[-3000:]
    if pattern == PATTERNS[-1]:
        assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.timeout(RUN_S + 30)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_bunny(broker, pattern):
    check(run_program("bunny", ["/usr/bin/ruby", PROGRAMS / "patterns.rb"], broker), pattern)


@pytest.mark.long
@pytest.mark.timeout(cache.INSTALL_S + RUN_S)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_kombu(broker, pattern):
    env = cache.python_packages("kombu==5.4.2", "amqp==5.2.0", "celery==5.4.0")
    check(run_program("kombu", [sys.executable, PROGRAMS / "patterns_kombu.py"], broker, env), pattern)


@pytest.mark.long
@pytest.mark.timeout(cache.INSTALL_S + RUN_S)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_amqplib(broker, pattern):
    if not shutil.which("npm"):
        pytest.skip("amqplib: npm is not installed")
    env = cache.node_packages("amqplib@0.10.4")
    check(run_program("node", ["node", PROGRAMS / "patterns.js"], broker, env), pattern)


@pytest.mark.long
@pytest.mark.timeout(cache.INSTALL_S + RUN_S)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_java_client(broker, pattern, tmp_path_factory):
    if not shutil.which("mvn") or not shutil.which("javac"):
        pytest.skip("Java client: mvn or javac is not installed")
    jars = cache.maven_jars("com.rabbitmq:amqp-client:5.20.0", "org.slf4j:slf4j-api:1.7.36",
                            "org.slf4j:slf4j-nop:1.7.36")
    check(run_program("java", ["java", "-cp", jars, PROGRAMS / "Patterns.java"], broker), pattern)


# -- amqp-tools -----------------------------------------------------------------------------------
def tool(name, broker, *args, **kw):
    command = [f"/usr/bin/amqp-{name}", f"--url=amqp://guest:guest@{broker.host}:{broker.amqp_port}/%2f", *args]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, **kw)


class TestAmqpTools:
    def test_publish_and_get(self, broker, unique):
        q = unique("tools")
        assert tool("declare-queue", broker, f"--queue={q}", "--durable").stdout.decode().strip() == q
        assert tool("publish", broker, f"--routing-key={q}", "--persistent", "--body=hello").returncode == 0
        got = tool("get", broker, f"--queue={q}")
        assert (got.returncode, got.stdout) == (0, b"hello")
        assert tool("get", broker, f"--queue={q}").returncode == 2
        assert tool("delete-queue", broker, f"--queue={q}").stdout.strip() == b"0"

    def test_consume(self, broker, unique):
        q = unique("tools")
        tool("declare-queue", broker, f"--queue={q}", "--durable")
        body = bytes(range(256)) * 2000
        assert tool("publish", broker, f"--routing-key={q}", input=body).returncode == 0
        got = tool("consume", broker, f"--queue={q}", "--count=1", "cat")
        assert got.stdout == body
        tool("delete-queue", broker, f"--queue={q}")

    def test_consume_from_an_exchange(self, broker, tmp_path):
        out = open(tmp_path / "out", "wb")
        url = f"--url=amqp://guest:guest@{broker.host}:{broker.amqp_port}/%2f"
        consumer = subprocess.Popen(["/usr/bin/amqp-consume", url, "--exchange=amq.topic", "--routing-key=tools.*",
                                     "--count=2", "cat"], stdout=out, stderr=subprocess.PIPE)
        try:
            err = consumer.stderr.readline().decode()
            assert "Server provided queue name: amq.gen-" in err

            def published():
                tool("publish", broker, "--exchange=amq.topic", "--routing-key=tools.a", "--body=x")
                return consumer.poll() is not None
            wait_until(published, 15, "the consumer has its messages", step_s=0.1)
            assert consumer.returncode == 0
        finally:
            consumer.kill()
            consumer.wait()
            out.close()
        assert (tmp_path / "out").read_bytes() == b"xx"

    def test_error_text(self, broker, unique):
        q = unique("none")
        got = tool("get", broker, f"--queue={q}")
        assert got.returncode != 0
        assert f"NOT_FOUND - no queue '{q}' in vhost '/'" in got.stdout.decode()
