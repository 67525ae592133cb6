"""Client libraries, unmodified: kafkajs in Node, franz-go in Go. Each has a program that runs one pattern after the other and prints
"ok NAME" for each."""
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import address, end, kafka_gateway
from mqtest import cache

PROGRAMS = Path(__file__).resolve().parent / "programs"
RUN_S = 240

pytestmark = [pytest.mark.long, pytest.mark.timeout(cache.INSTALL_S + RUN_S)]


@pytest.fixture(scope="module")
def gateway(broker_kind):
    made = kafka_gateway(kafka__group_initial_rebalance_delay="0s").start()
    yield made
    end(made)


def run(command, patterns, env=None):
    done = subprocess.run([str(part) for part in command], env=env, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=RUN_S)
    said = [line[3:] for line in done.stdout.splitlines() if line.startswith("ok ")]
    assert (done.returncode, said) == (0, patterns), done.stdout[-3000:]


def test_kafkajs(gateway, unique):
    if not shutil.which("npm"):
        pytest.skip("kafkajs: npm is not installed")
    env = cache.node_packages("kafkajs@2.2.4")
    run(["node", PROGRAMS / "kafkajs.js", address(gateway), unique("js")],
        ["produce_consume", "compression", "group", "transactions", "administration"], env)


def test_franz_go(gateway, unique):
    if not shutil.which("go"):
        pytest.skip("franz-go: go is not installed")
    run([cache.go_program(PROGRAMS / "franz"), address(gateway), unique("go")],
        ["compressions", "group", "transactions", "administration"])
