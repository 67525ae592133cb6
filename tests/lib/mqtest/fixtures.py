"""Fixtures for every folder of tests that needs a broker: `from mqtest.fixtures import *` in conftest.py.

A run is against one broker (MQGATE_BROKER=mqgate|rabbitmq). One process of it serves a whole run, also
over several folders; tests keep apart by unique names, and clean up what would outlive a connection.
A gateway that is not built is an error, never a skip: a run without a broker has shown nothing.
"""
import atexit
import contextlib
import itertools
import os

import pytest

from . import broker as brokers

_shared = {}
_own = []   # brokers of single tests and modules, for the logs of failures
_serial = itertools.count(1)
TEST_TIMEOUT_S = 100


def shared_broker(name):
    if name not in _shared:
        made = brokers.BROKERS[name]()
        _shared[name] = made.start()
        atexit.register(made.close)
    made = _shared[name]
    if not made.alive():
        raise brokers.BrokerError(f"{name} died during an earlier test:\n{made.log_text()}")
    return made


@pytest.fixture(scope="session")
def broker_kind():
    name = brokers.chosen_name()
    missing = brokers.BROKERS[name].missing()
    if missing:
        pytest.exit(missing, returncode=3)
    yield brokers.BROKERS[name]
    end_shared(name)


def end_shared(name):
    """The clean end of the shared broker; what it says at its end (leaks, a wrong exit code) is an error."""
    made = _shared.pop(name, None)
    if made is None:
        return
    try:
        code = made.stop(60) if made.alive() else made.proc.returncode
        if code != 0 and not made.is_rabbitmq:
            raise brokers.BrokerError(f"{name} ended with {code}:\n{made.log_text()}")
        made.check_log()
    finally:
        made.close()


@pytest.fixture
def broker(broker_kind):
    """The shared broker of this run, checked to be alive before and after the test."""
    made = shared_broker(broker_kind.name)
    yield made
    if not made.alive():
        text = made.log_text()
        _shared.pop(broker_kind.name, None)
        made.close()
        pytest.fail(f"the broker died:\n{text}")


@pytest.fixture
def own_broker(broker_kind):
    """A broker for this test alone, which it may restart or kill."""
    with keep_alive_broker(broker_kind) as made:
        yield made


@pytest.fixture
def unique(request):
    """unique('orders') gives a name that no other test uses."""
    def make(prefix="t"):
        return f"{prefix}-{os.getpid()}-{next(_serial)}"
    return make


def common_configure(config):
    config.addinivalue_line("markers", "long: needs a download or more than a few seconds; runs in the long run")


def common_collection(items):
    for item in items:
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TEST_TIMEOUT_S))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failure carries the end of the broker's log."""
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for made in _own or _shared.values():
            report.sections.append((f"{made.name} log", made.log_text(3000)))


def pytest_configure(config):
    common_configure(config)


def pytest_collection_modifyitems(items):
    common_collection(items)


@contextlib.contextmanager
def keep_alive_broker(kind):
    """A started broker of its own, for a fixture of module scope."""
    made = kind()
    _own.append(made)
    try:
        yield made.start()
    finally:
        _own.remove(made)
        try:
            if made.alive():
                made.stop(60)
            made.check_log()
        finally:
            made.close()
