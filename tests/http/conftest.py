"""Fixtures of the tests of the management API and mqgatectl; see tests/README.md."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import pytest  # noqa: E402

from mqtest.fixtures import *  # noqa: E402,F401,F403
from mqtest.fixtures import pytest_collection_modifyitems, pytest_configure, pytest_runtest_makereport  # noqa: E402,F401
from mqtest.pika_help import Amqp  # noqa: E402

from api import Api, Ctl  # noqa: E402


@pytest.fixture
def amqp(broker, unique):
    """pika connections, unique names and cleanup for one test."""
    helper = Amqp(broker, unique)
    yield helper
    helper.close()


@pytest.fixture
def api(broker):
    return Api(broker)


@pytest.fixture
def ctl(broker):
    return Ctl(broker)


@pytest.fixture
def vhost(api, unique):
    """A vhost of its own, gone after the test."""
    name = unique("vh/ost")
    api.put("vhosts", name).expect(201)
    yield name
    api.delete("vhosts", name)


@pytest.fixture
def user(api, unique):
    """make(tags, perms={vhost: (configure, write, read)}) gives an Api of a new user."""
    made = []

    def make(tags="management", perms=None):
        name = unique("user")
        api.put("users", name, body={"password": "pw", "tags": tags}).expect(201)
        made.append(name)
        for where, rights in (perms or {}).items():
            api.put("permissions", where, name, body=dict(zip(("configure", "write", "read"), rights))).expect(201)
        return Api(api.broker, name, "pw")
    yield make
    for name in made:
        api.delete("users", name)
