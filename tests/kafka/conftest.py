"""Fixtures of the Kafka tests: one gateway with listeners for Kafka, AMQP, MQTT and STOMP for the whole folder."""
import atexit
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import pytest  # noqa: E402

from mqtest import broker as brokers  # noqa: E402
from mqtest.fixtures import *  # noqa: E402,F401,F403
from mqtest.fixtures import _shared, pytest_collection_modifyitems, pytest_configure, pytest_runtest_makereport  # noqa: E402,F401
from mqtest.kafka import Kafka  # noqa: E402
from mqtest.pika_help import Amqp  # noqa: E402

LISTENERS = ("kafka", "mqtt", "stomp")


def kafka_gateway(**settings):
    """kafka_gateway(kafka__anonymous="off"): not started."""
    return brokers.Gateway({**{f"listeners.{name}": "127.0.0.1:0" for name in LISTENERS},
                            **{key.replace("__", "."): value for key, value in settings.items()}})


def end(made):
    try:
        if made.alive():
            assert made.stop(60) == 0, made.log_text()
        made.check_log()
    finally:
        made.close()


@pytest.fixture
def broker(broker_kind):
    """The shared gateway of this folder, checked to be alive before and after the test."""
    if broker_kind.name != "mqgate":
        pytest.skip("Kafka is the gateway's")
    if "kafka" not in _shared:
        _shared["kafka"] = kafka_gateway().start()
        atexit.register(_shared["kafka"].close)
    made = _shared["kafka"]
    yield made
    if not made.alive():
        _shared.pop("kafka")
        pytest.fail(f"the broker died:\n{made.log_text()}")


@pytest.fixture
def own_gateway(broker_kind):
    """own_gateway(kafka__anonymous="off") starts a gateway for this test alone."""
    made = []

    def make(**settings):
        made.append(kafka_gateway(**settings))
        return made[-1].start()

    yield make
    for one in made:
        end(one)


@pytest.fixture
def port(broker):
    return broker.ports["kafka"]


def address(made):
    return f"127.0.0.1:{made.ports['kafka']}"


@pytest.fixture
def bootstrap(broker):
    return address(broker)


@pytest.fixture
def amqp(broker, unique):
    """AMQP connections to the same gateway; what they declared is removed."""
    made = Amqp(broker, unique)
    yield made
    made.close()


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


def pytest_sessionfinish():
    made = _shared.pop("kafka", None)
    if made is not None:
        end(made)
