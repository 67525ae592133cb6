"""Fixtures of the scenarios; see tests/README.md."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))

from mqtest.fixtures import *  # noqa: E402,F401,F403
from mqtest.fixtures import pytest_collection_modifyitems, pytest_configure, pytest_runtest_makereport  # noqa: E402,F401
