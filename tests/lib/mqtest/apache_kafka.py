"""Apache Kafka from its Maven jars, one node, with the face of the other brokers: what the Kafka tests and suites are held against.

storage-adapters/kafka/with-kafka starts it and ends it when the command that it runs ends, which is a `cat` of a pipe held here:
so the server goes away with this process, whatever becomes of it.
"""
import os
import subprocess

from .broker import ROOT, Broker
from .cache import CACHE

VERSION = "3.9.1"
WITH_KAFKA = ROOT / "storage-adapters/kafka/with-kafka"


class ApacheKafka(Broker):
    """`settings` are lines of server.properties."""

    name = "kafka"
    is_rabbitmq = False
    start_timeout_s = 120.0

    def __init__(self, settings: dict = None):
        super().__init__()
        self.settings = settings or {}

    @staticmethod
    def missing() -> str:
        """Fetches the jars, too, while there is still a network."""
        if (CACHE / "kafka" / VERSION / "complete").exists():
            return ""
        done = subprocess.run([WITH_KAFKA, "true"], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return "" if done.returncode == 0 else done.stdout.strip()[-300:]

    def _spawn(self, log):
        lines = "\n".join(f"{key}={value}" for key, value in self.settings.items())
        env = {**os.environ, "KAFKA_SETTINGS": lines, "KAFKA_VERSION": VERSION, "TMPDIR": str(self.folder)}
        return subprocess.Popen([WITH_KAFKA, "sh", "-c", "echo ready {}; cat >/dev/null"], stdin=subprocess.PIPE, stdout=log,
                                stderr=log, cwd=self.folder, env=env)

    def _ready(self, text):
        if "ready " not in text:
            return False
        self.ports["kafka"] = int(text.split("ready ")[1].split()[0].rpartition(":")[2])
        return True

    def stop(self, timeout_s: float = 60.0) -> int:
        proc, self.proc = self.proc, None
        proc.stdin.close()
        return proc.wait(timeout_s)

    def kill9(self):
        if self.proc is not None:
            self.stop()

    def write_ctl_wrapper(self, folder):
        """There is no rabbitmqctl for it."""
