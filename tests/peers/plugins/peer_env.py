"""Gives pytest the -E option of the peers' own root conftest, for sources that come without it.

py-amqp and kombu mark their integration tests with the environment they need (`env('rabbitmq')`) and skip them
unless -E names it.
"""
import pytest


def pytest_addoption(parser):
    try:
        parser.addoption("-E", action="append", metavar="NAME", default=[], help="run tests marked with env(NAME)")
    except ValueError:
        pass


def pytest_configure(config):
    config.addinivalue_line("markers", "env(name): needs the named environment")
    config.addinivalue_line("markers", "flaky(reruns, reruns_delay): may be repeated (is not, here)")


def pytest_runtest_setup(item):
    wanted = [marker.args[0] for marker in item.iter_markers("env")]
    if wanted and not set(wanted) & set(item.config.getoption("-E") or []):
        pytest.skip(f"needs the environment {wanted}")
