"""Fixtures of a folder of tests whose broker is not the run's own: one for the whole folder, and gateways for single tests.

    broker = folder.shared_fixture("stomp", make)         # make(kind) gives a broker, not started
    own_gateway = folder.own_fixture(stomp_gateway)       # own_gateway(stomp__vhost="x") in a test
    def pytest_sessionfinish(): folder.end_shared("stomp")
"""
import atexit

import pytest

from . import broker as brokers
from .fixtures import _shared
from .pika_help import Amqp


def gateway(listeners, settings):
    """A gateway with these listeners and settings as arguments (stomp__vhost="x"), not started."""
    return brokers.Gateway({**{f"listeners.{name}": "127.0.0.1:0" for name in listeners},
                            **{key.replace("__", "."): value for key, value in settings.items()}})


def end(made):
    """The clean end; what a gateway says at its end (leaks, a wrong exit code) is an error."""
    try:
        if made.is_rabbitmq:
            return
        if made.alive():
            assert made.stop(60) == 0, made.log_text()
        made.check_log()
    finally:
        made.close()


def end_shared(key):
    made = _shared.pop(key, None)
    if made is not None:
        end(made)


def shared_fixture(key, make):
    @pytest.fixture
    def broker(broker_kind):
        """The shared broker of this folder, checked to be alive before and after the test."""
        if key not in _shared:
            _shared[key] = make(broker_kind).start()
            atexit.register(_shared[key].close)
        made = _shared[key]
        yield made
        if not made.alive():
            _shared.pop(key)
            pytest.fail(f"the broker died:\n{made.log_text()}")

    return broker


def own_fixture(make):
    @pytest.fixture
    def own_gateway(broker_kind):
        """own_gateway(section__key="x") starts a gateway for this test alone."""
        if broker_kind.name != "mqgate":
            pytest.skip("settings of the gateway")
        made = []

        def start(**settings):
            made.append(make(**settings))
            return made[-1].start()

        yield start
        for one in made:
            end(one)

    return own_gateway


@pytest.fixture
def amqp(broker, unique):
    """AMQP connections to the folder's broker; what they declared is removed."""
    made = Amqp(broker, unique)
    yield made
    made.close()
