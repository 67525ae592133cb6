"""Fixtures of the STOMP tests: one broker with STOMP, AMQP and WebSocket listeners for the whole folder, mqgate or (the oracle)
RabbitMQ with its STOMP plugins, by MQGATE_BROKER."""
import atexit
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import pytest  # noqa: E402

from mqtest import broker as brokers  # noqa: E402
from mqtest.fixtures import *  # noqa: E402,F401,F403
from mqtest.fixtures import _shared, pytest_collection_modifyitems, pytest_configure, pytest_runtest_makereport  # noqa: E402,F401
from mqtest.pika_help import Amqp  # noqa: E402
from mqtest.stomp import Stomp  # noqa: E402


def stomp_gateway(**settings):
    made = brokers.Gateway({"listeners.stomp": "127.0.0.1:0", "listeners.stomp_ws": "127.0.0.1:0",
                            **{key.replace("__", "."): value for key, value in settings.items()}})
    return made


def stomp_rabbitmq():
    stomp, web = brokers.free_port(), brokers.free_port()
    made = brokers.RabbitMQ(f"stomp.listeners.tcp.1 = 127.0.0.1:{stomp}\nweb_stomp.tcp.ip = 127.0.0.1\n"
                            f"web_stomp.tcp.port = {web}", plugins="rabbitmq_stomp, rabbitmq_web_stomp")
    made.ports.update(stomp=stomp, stomp_ws=web)
    return made


MAKE = {"mqgate": stomp_gateway, "rabbitmq": stomp_rabbitmq}


@pytest.fixture
def broker(broker_kind):
    """The shared broker of this folder, checked to be alive before and after the test."""
    if "stomp" not in _shared:
        _shared["stomp"] = MAKE[broker_kind.name]().start()
        Stomp.error_ends = not _shared["stomp"].is_rabbitmq
        atexit.register(_shared["stomp"].close)
    made = _shared["stomp"]
    yield made
    if not made.alive():
        _shared.pop("stomp")
        pytest.fail(f"the broker died:\n{made.log_text()}")


@pytest.fixture
def on_rabbitmq(broker):
    return broker.is_rabbitmq


@pytest.fixture
def own_gateway(broker_kind):
    """own_gateway(stomp__vhost="x") starts a gateway for this test alone."""
    if broker_kind.name != "mqgate":
        pytest.skip("settings of the gateway")
    made = []

    def make(**settings):
        made.append(stomp_gateway(**settings))
        return made[-1].start()

    yield make
    for one in made:
        try:
            if one.alive():
                assert one.stop(60) == 0, one.log_text()
            one.check_log()
        finally:
            one.close()


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


@pytest.fixture
def amqp(broker, unique):
    helper = Amqp(broker, unique)
    yield helper
    helper.close()


def pytest_sessionfinish():
    made = _shared.pop("stomp", None)
    if made is not None:
        try:
            if not made.is_rabbitmq and made.alive():
                code = made.stop(60)
                if code != 0:
                    raise brokers.BrokerError(f"ended with {code}:\n{made.log_text()}")
            if not made.is_rabbitmq:
                made.check_log()
        finally:
            made.close()
