"""Fixtures of the Kafka tests: one gateway with listeners for Kafka, AMQP, MQTT and STOMP for the whole folder."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import pytest  # noqa: E402

from mqtest import folder  # noqa: E402
from mqtest.fixtures import *  # noqa: E402,F401,F403
from mqtest.fixtures import pytest_collection_modifyitems, pytest_configure, pytest_runtest_makereport  # noqa: E402,F401
from mqtest.folder import amqp, end  # noqa: E402,F401
from mqtest.kafka import Kafka  # noqa: E402

LISTENERS = ("kafka", "mqtt", "stomp")


def kafka_gateway(**settings):
    """kafka_gateway(kafka__anonymous="off"): not started."""
    return folder.gateway(LISTENERS, settings)


def make(kind):
    if kind.name != "mqgate":
        pytest.skip("Kafka is the gateway's")
    return kafka_gateway()


broker = folder.shared_fixture("kafka", make)
own_gateway = folder.own_fixture(kafka_gateway)


@pytest.fixture
def port(broker):
    return broker.ports["kafka"]


def address(made):
    return f"127.0.0.1:{made.ports['kafka']}"


@pytest.fixture
def bootstrap(broker):
    return address(broker)


@pytest.fixture
def kafka(port):
    """kafka() is a connection of bytes; all are closed at the end."""
    made = []

    def make(to=None):
        made.append(Kafka(to or port))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture
def topic(kafka, unique):
    """The name of a new topic, with one partition."""
    name = unique("topic")
    kafka().metadata([name])
    return name


def pytest_sessionfinish():
    folder.end_shared("kafka")
