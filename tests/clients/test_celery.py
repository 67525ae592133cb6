"""A Celery worker as an application runs it: results over rpc://, retries with a delay, late acks."""
import os
import signal
import subprocess
import sys

import pytest

from mqtest import cache
from mqtest.broker import wait_until
from test_other_clients import PROGRAMS

pytestmark = [pytest.mark.long, pytest.mark.timeout(cache.INSTALL_S + 120)]


class App:
    """Workers and calls of one Celery application."""

    def __init__(self, broker, folder, name):
        self.trace = folder / "trace"
        self.trace.touch()
        self.folder = folder
        self.env = {**cache.python_packages("kombu==5.4.2", "amqp==5.2.0", "celery==5.4.0"), "BROKER": broker.url,
                    "QUEUE": name, "TRACE": str(self.trace), "C_FORCE_ROOT": "1"}
        self.env["PYTHONPATH"] += f":{PROGRAMS}"
        self.workers = []

    def worker(self):
        log = self.folder / f"worker{len(self.workers)}.log"
        command = [sys.executable, "-m", "celery", "-A", "celery_tasks", "worker", "-c", "1", "-l", "INFO",
                   "-n", f"w{len(self.workers)}@%h"]
        with open(log, "wb") as out:
            made = subprocess.Popen(command, env=self.env, stdout=out, stderr=out, cwd=self.folder,
                                    start_new_session=True)
        self.workers.append(made)
        wait_until(lambda: " ready." in log.read_text() or made.poll() is not None, 40, "the worker is ready", 0.05)
        assert made.poll() is None, log.read_text()
        return made

    def call(self, expression, timeout_s=40):
        """What an application prints that imports the tasks."""
        code = f"from celery_tasks import *\nprint({expression})"
        return subprocess.run([sys.executable, "-c", code], env=self.env, cwd=self.folder, text=True, check=True,
                              stdout=subprocess.PIPE, timeout=timeout_s).stdout.strip()

    def traced(self):
        return self.trace.read_text().splitlines()

    @staticmethod
    def kill(worker, number=signal.SIGKILL):
        if worker.poll() is None:
            os.killpg(worker.pid, number)
            worker.wait(20)

    def close(self):
        for worker in self.workers:
            self.kill(worker)


@pytest.fixture
def app(broker, tmp_path, unique):
    made = App(broker, tmp_path, unique("celery"))
    yield made
    made.close()


def test_results_retries_and_remote_control(app):
    worker = app.worker()
    assert app.call("[add.delay(n, n).get(timeout=20) for n in range(5)]") == "[0, 2, 4, 6, 8]"
    assert app.call("flaky.delay(3).get(timeout=30)") == "3"
    assert app.traced() == [f"flaky {n}" for n in range(4)]
    assert "'ok': 'pong'" in app.call("app.control.ping(timeout=5)")
    app.kill(worker, signal.SIGTERM)
    assert worker.returncode == 0


def test_acks_late_survives_a_killed_worker(app):
    """The task of a worker that dies is run by the next one, marked redelivered."""
    first = app.worker()
    app.call("slow.delay(600).id")
    wait_until(lambda: app.traced() == ["slow False"], 20, "the task has begun")
    app.call("add.delay(1, 1).id")
    app.kill(first)
    app.env["TRACE"] = str(app.trace)
    second = app.worker()
    wait_until(lambda: app.traced()[1:2] == ["slow True"], 30, "the task is run again")
    assert second.poll() is None
