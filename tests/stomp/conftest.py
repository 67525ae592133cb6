"""Fixtures of the STOMP tests: one broker with STOMP, AMQP and WebSocket listeners for the whole folder, mqgate or (the oracle)
RabbitMQ with its STOMP plugins, by MQGATE_BROKER."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import pytest  # noqa: E402

from mqtest import broker as brokers, folder  # noqa: E402
from mqtest.fixtures import *  # noqa: E402,F401,F403
from mqtest.fixtures import pytest_collection_modifyitems, pytest_configure, pytest_runtest_makereport  # noqa: E402,F401
from mqtest.folder import amqp  # noqa: E402,F401
from mqtest.stomp import Stomp  # noqa: E402


def stomp_gateway(**settings):
    return folder.gateway(("stomp", "stomp_ws"), settings)


def stomp_rabbitmq():
    stomp, web = brokers.free_port(), brokers.free_port()
    made = brokers.RabbitMQ(f"stomp.listeners.tcp.1 = 127.0.0.1:{stomp}\nweb_stomp.tcp.ip = 127.0.0.1\n"
                            f"web_stomp.tcp.port = {web}", plugins="rabbitmq_stomp, rabbitmq_web_stomp")
    made.ports.update(stomp=stomp, stomp_ws=web)
    return made


def make(kind):
    made = {"mqgate": stomp_gateway, "rabbitmq": stomp_rabbitmq}[kind.name]()
    Stomp.error_ends = not made.is_rabbitmq
    return made


broker = folder.shared_fixture("stomp", make)
own_gateway = folder.own_fixture(stomp_gateway)


@pytest.fixture
def on_rabbitmq(broker):
    return broker.is_rabbitmq


@pytest.fixture
def stomp(broker):
    """stomp() is a connected client, stomp(version="1.1") one of that version; all are closed at the end."""
    made = []

    def make(version="1.2", connect=True, port=None, **headers):
        client = Stomp(port or broker.ports["stomp"], version=version)
        made.append(client)
        return client.connect(**headers) if connect else client

    yield make
    for client in made:
        client.close()


def pytest_sessionfinish():
    folder.end_shared("stomp")
