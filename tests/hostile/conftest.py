"""Fixtures of the hostile tests; see tests/README.md."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import pytest  # noqa: E402

from mqtest.fixtures import *  # noqa: E402,F401,F403
from mqtest.fixtures import pytest_collection_modifyitems, pytest_configure, pytest_runtest_makereport  # noqa: E402,F401
from mqtest.pika_help import Amqp  # noqa: E402


@pytest.fixture
def amqp(broker, unique):
    """pika connections, unique names and cleanup for one test."""
    helper = Amqp(broker, unique)
    yield helper
    helper.close()
