"""The servers under load. Each is started by hand in a folder of its own, on free ports of 127.0.0.1, and ended by
its process id; between its turns it is stopped by SIGSTOP, so that an idle server costs the measured one nothing."""

import base64
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import time
import uuid
from pathlib import Path

from . import proc

ROOT = Path(__file__).resolve().parents[2]
RABBIT_BIN = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
START_S = 60
STOP_S = 30
OPEN_FILES = 65536
LISTENERS = ("amqp", "mqtt", "mqtt_ws", "stomp", "stomp_ws", "kafka", "rest")
NO_BUSY_WAIT = "+sbwt none +sbwtdcpu none +sbwtdio none"


class ServerError(Exception):
    """A server that does not start, or ended while it was measured."""


def allow_open_files():
    """Raises this process's limit, and so its children's. The number that may be open."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(hard, OPEN_FILES), max(hard, OPEN_FILES)))
    except (ValueError, PermissionError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


class Server:
    """One process tree with a port of the protocol that is measured."""

    kind = ""
    label = ""
    extra_environment = {}

    def __init__(self, folder, cores, protocol="amqp"):
        self.protocol = protocol
        self.folder = Path(folder)
        self.folder.mkdir(parents=True)
        self.cores = cores
        self.port = 0
        self.log = self.folder / "output"
        self._process = None

    def start(self):
        with open(self.log, "wb") as log:
            self._process = subprocess.Popen(
                self._command(), env={**self._environment(), **self.extra_environment}, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True,
                preexec_fn=lambda: os.sched_setaffinity(0, self.cores))
        deadline = time.monotonic() + START_S
        while not self._is_ready(self.log.read_text(errors="replace")):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise ServerError(f"{self.label} did not start: {self._log_tail()}")
            time.sleep(0.05)

    def pids(self):
        return proc.tree(self._process.pid)

    def check_alive(self):
        if self._process.poll() is not None:
            raise ServerError(f"{self.label} ended with {self._process.returncode}: {self._log_tail()}")

    def pause(self):
        proc.pause(self.pids())

    def resume(self):
        proc.resume(self.pids())

    def stop(self):
        if self._process is None or self._process.poll() is not None:
            return
        pids = self.pids()
        proc.resume(pids)
        proc.send_signal([self._main_pid(pids)], signal.SIGTERM)
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            proc.send_signal(pids, signal.SIGKILL)
            self._process.wait()

    def kill(self):
        """The whole tree ends now, whatever it does."""
        if self._process is None or self._process.poll() is not None:
            return
        proc.send_signal(self.pids(), signal.SIGKILL)
        self._process.wait()

    def wait_killed(self):
        """Somebody has sent SIGKILL to all its processes."""
        self._process.wait(STOP_S)

    def about(self):
        """One line: version and how it is run."""
        return self.label

    def _log_tail(self):
        return " | ".join(self.log.read_text(errors="replace").splitlines()[-5:])

    def _main_pid(self, pids):
        return pids[0]

    def _environment(self):
        return dict(os.environ)


class Mqgate(Server):
    kind = label = "mqgate"

    @staticmethod
    def build_folder():
        return ROOT / os.environ.get("MQGATE_BUILD", "build")

    @classmethod
    def why_missing(cls):
        binary = cls.build_folder() / "mqgate"
        hint = "./run --build-only builds it, MQGATE_BUILD names another folder"
        return "" if binary.exists() else f"{binary} is not there: {hint}"

    def __init__(self, folder, cores, settings=(), protocol="amqp"):
        super().__init__(folder, cores, protocol)
        self.settings = settings

    def _command(self):
        values = [*(f"listeners.{name}={'127.0.0.1:0' if name == self.protocol else 'off'}" for name in LISTENERS),
                  "listeners.http=off", f"modules.path={self.build_folder()}/modules",
                  f"store.journal.path={self.folder}/journal", f"node.workers={len(self.cores)}", *self.settings]
        command = [str(self.build_folder() / "mqgate"), "--config", str(ROOT / "conf/mqgate.conf")]
        return command + [word for value in values for word in ("--set", value)]

    def _is_ready(self, log):
        found = re.search(rf"event=ready .*?\b{self.protocol}=127\.0\.0\.1:(\d+)", log)
        self.port = int(found[1]) if found else 0
        return bool(found)

    def about(self):
        version = subprocess.run([self._command()[0], "--version"], capture_output=True, text=True, check=False)
        return f"{version.stdout.strip()}, node.workers={len(self.cores)} {' '.join(self.settings)}"


class Mosquitto(Server):
    """Debian's, without limits that the load would meet. It keeps sessions in memory."""

    kind = label = "mosquitto"
    binary = Path("/usr/sbin/mosquitto")

    @classmethod
    def why_missing(cls):
        return "" if cls.binary.exists() else f"{cls.binary} is not there: install the package mosquitto"

    def __init__(self, folder, cores):
        super().__init__(folder, cores)
        [self.port] = proc.free_ports(1)
        (self.folder / "conf").write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\n"
                                          "max_inflight_messages 0\nmax_queued_messages 0\n")

    def _command(self):
        return [str(self.binary), "-c", str(self.folder / "conf")]

    def _is_ready(self, log):
        return re.search(r"mosquitto version \S+ running", log) is not None

    def about(self):
        version = re.search(r"mosquitto version (\S+)", self.log.read_text(errors="replace"))
        return f"Mosquitto {version[1]}, sessions in memory"


class MqgateOs(Mqgate):
    """The same, answering as soon as the page cache has a batch."""

    kind = "mqgate_os"
    label = "mqgate flush=os"

    def __init__(self, folder, cores, settings=(), protocol="amqp"):
        super().__init__(folder, cores, (*settings, "store.journal.flush=os"), protocol)


class Kafka(Server):
    """Apache Kafka from its Maven jars (storage-adapters/kafka/with-kafka fetches them), one node in KRaft mode, with the heap
    and collector of its start script. Its sessions outlive the pauses between its turns."""

    kind = label = "kafka"
    version = os.environ.get("KAFKA_VERSION", "3.9.1")
    java = ("java", "-Xmx1G", "-Xms1G", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20",
            "-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent")

    @classmethod
    def jars(cls):
        cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
        return cache / "mqgate/kafka" / cls.version / "jars"

    @classmethod
    def why_missing(cls):
        if shutil.which("java") is None:
            return "java is not installed"
        there = (cls.jars().parent / "complete").exists()
        return "" if there else "no Apache Kafka: storage-adapters/kafka/with-kafka true fetches it"

    def __init__(self, folder, cores):
        super().__init__(folder, cores, "kafka")
        self.port, controller = proc.free_ports(2)
        self.properties = self.folder / "server.properties"
        self.properties.write_text(f"""process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{self.port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={self.folder}/log
auto.create.topics.enable=false
file.delete.delay.ms=1000
broker.session.timeout.ms=3600000
""")
        name = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[:22]
        subprocess.run([*self.java[:1], "-cp", f"{self.jars()}/*", "kafka.tools.StorageTool", "format", f"--cluster-id={name}",
                        "-c", str(self.properties)], check=True, stdout=subprocess.DEVNULL)

    def _command(self):
        return [*self.java, "-cp", f"{self.jars()}/*", "kafka.Kafka", str(self.properties)]

    def _is_ready(self, log):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def about(self):
        return f"Apache Kafka {self.version}, {' '.join(self.java[1:])}"


class Epmd:
    """Erlang's port mapper, one for all our nodes and none of anybody else's."""

    def __init__(self):
        [self.port] = proc.free_ports(1)
        self._process = subprocess.Popen(["epmd", "-port", str(self.port), "-address", "127.0.0.1"])

    def stop(self):
        self._process.terminate()
        self._process.wait()


class RabbitMQ(Server):
    kind = label = "rabbitmq"
    flags = ""

    @staticmethod
    def why_missing():
        return "" if RABBIT_BIN.exists() else f"{RABBIT_BIN} is not there: install the package rabbitmq-server"

    def __init__(self, folder, cores, epmd, protocol="amqp"):
        super().__init__(folder, cores, protocol)
        self.epmd = epmd
        self.amqp_port, self.node_port, self.port = proc.free_ports(3)
        if protocol == "amqp":
            self.port = self.amqp_port
            (self.folder / "enabled_plugins").write_text("[].\n")
        else:
            (self.folder / "enabled_plugins").write_text(f"[rabbitmq_{protocol}].\n")
            (self.folder / "rabbitmq.conf").write_text(f"{protocol}.listeners.tcp.1 = 127.0.0.1:{self.port}\n")
        (self.folder / "env.conf").write_text("")

    def _command(self):
        return [str(RABBIT_BIN)]

    def _environment(self):
        folder = str(self.folder)
        return dict(
            os.environ, HOME=folder, ERL_EPMD_PORT=str(self.epmd.port), ERL_EPMD_ADDRESS="127.0.0.1",
            RABBITMQ_NODENAME=f"bench{self.node_port}@localhost", RABBITMQ_NODE_IP_ADDRESS="127.0.0.1",
            RABBITMQ_NODE_PORT=str(self.amqp_port), RABBITMQ_DIST_PORT=str(self.node_port),
            RABBITMQ_MNESIA_BASE=folder + "/mnesia", RABBITMQ_LOG_BASE=folder + "/log",
            RABBITMQ_ENABLED_PLUGINS_FILE=folder + "/enabled_plugins", RABBITMQ_CONF_ENV_FILE=folder + "/env.conf",
            RABBITMQ_CONFIG_FILE=folder + "/rabbitmq", RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=self.flags)

    def _is_ready(self, log):
        return "Starting broker... completed" in log

    def _emulator(self, pids):
        return next(pid for pid in pids if "beam" in proc.command_line(pid)[0])

    def _main_pid(self, pids):
        return self._emulator(pids)

    def scheduler_flags(self):
        """What the emulator was started with, whoever said it."""
        words = proc.command_line(self._emulator(self.pids()))
        words = words[:words.index("--")]
        pairs = dict(zip(words, words[1:]))
        names = ("S", "stbt", "sbwt", "sbwtdcpu", "sbwtdio")
        return " ".join(f"+{name} {pairs['-' + name]}" for name in names if "-" + name in pairs)

    def about(self):
        log = self.log.read_text(errors="replace")
        version, erlang = re.search(r"RabbitMQ (\S+)", log), re.search(r"Erlang:\s+(.*)", log)
        return f"RabbitMQ {version[1]}, Erlang/OTP {erlang[1]}, flags {self.scheduler_flags()}"


class RabbitMQNoBusyWait(RabbitMQ):
    """The same without busy waiting, which burns CPU that no message needs."""

    kind = "rabbitmq_nowait"
    label = "rabbitmq +sbwt none"
    flags = NO_BUSY_WAIT
