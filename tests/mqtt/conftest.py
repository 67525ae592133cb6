"""Fixtures of the MQTT tests: a gateway with MQTT, AMQP and WebSocket listeners, and raw clients to talk to it."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import pytest  # noqa: E402

from mqtest.broker import Gateway  # noqa: E402
from raw import Raw  # noqa: E402

SETTINGS = {"listeners.mqtt": "127.0.0.1:0", "listeners.mqtt_ws": "127.0.0.1:0", "auth.anonymous": "on",
            "mqtt.sys_interval": "1s", "mqtt.receive_maximum": "20", "mqtt.topic_aliases": "10"}


def pytest_configure(config):
    config.addinivalue_line("markers", "covers(*statements): normative statements that the test checks")


def gateway(**more):
    return Gateway({**SETTINGS, **{k.replace("__", "."): v for k, v in more.items()}})


@pytest.fixture(scope="module")
def node():
    with gateway() as g:
        yield g
        g.check_log()


@pytest.fixture
def own_node():
    """A gateway of the test's own, to be stopped and killed."""
    with gateway() as g:
        yield g
        g.check_log()


@pytest.fixture
def unique(request):
    return request.node.name.replace("[", "-").replace("]", "").replace("/", "-")[-60:]


@pytest.fixture(params=[4, 5], ids=["v311", "v5"])
def version(request):
    return request.param


@pytest.fixture
def client(node):
    """Makes raw clients of the module's gateway; all are closed at the end."""
    made = []

    def make(version=5, connect=True, to=None, **kw):
        c = Raw((to or node).ports["mqtt"], version)
        made.append(c)
        if connect:
            c.connect(**kw)
        return c

    yield make
    for c in made:
        c.close()
