"""Brokers that tests run against: the gateway, and RabbitMQ as the oracle.

Both have one face (start, stop, kill9, restart, ctl, amqp_port, rss_bytes, log_text), so that a test
names none of them. Every broker lives in a temporary folder of its own, listens on 127.0.0.1 on ports
that were free when it started, and is ended by its process id. The folder survives a failure when
MQGATE_KEEP is set, so that its log and store can be read.
"""
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
RABBIT_BIN = Path("/usr/lib/rabbitmq/bin")
PATIENCE_S = 40.0   # what nobody waits for when all is well
TROUBLE = re.compile(r"AddressSanitizer|LeakSanitizer|ThreadSanitizer|runtime error:|assert failed:")
LISTENERS = ("amqps mqtt mqtts mqtt_ws mqtt_wss stomp stomps stomp_ws stomp_wss "
             "kafka kafkas https rest").split()


class BrokerError(Exception):
    """The broker did not do what a test needs of it; carries the end of its log."""


def build_dir() -> Path:
    """The folder of the binaries under test (MQGATE_BUILD, relative to the repository)."""
    return (ROOT / os.environ.get("MQGATE_BUILD", "build")).resolve()


def free_port() -> int:
    """A port that nobody listens on now. Only for servers that cannot bind port 0 themselves."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(probe, timeout_s: float = PATIENCE_S, what: str = "condition", step_s: float = 0.01):
    """Polls until probe() is true and returns its value; raises with `what` at the deadline.

    What takes a moment on a quiet machine may take many seconds on a busy one: a shorter deadline is made longer."""
    timeout_s = max(timeout_s, PATIENCE_S)
    deadline = time.monotonic() + timeout_s
    while True:
        value = probe()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout_s} s: {what}")
        time.sleep(step_s)


class Broker:
    """The common face. Subclasses give _command(), _ready(log) and ctl()."""

    name = "?"
    host = "127.0.0.1"
    start_timeout_s = 60.0

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix=f"mqtest-{self.name}-"))
        self.log_path = self.folder / "broker.log"
        self.amqp_port = 0
        self.http_port = 0
        self.ports = {}
        self.proc = None
        self.run_count = 0
        self._log_start = 0

    # -- life ---------------------------------------------------------------------------------
    def start(self):
        self._log_start = self.log_path.stat().st_size if self.log_path.exists() else 0
        log = open(self.log_path, "ab")
        try:
            self.proc = self._spawn(log)
        finally:
            log.close()
        self.run_count += 1
        deadline = time.monotonic() + self.start_timeout_s
        while not self._ready(self._log_now()):
            if self.proc.poll() is not None:
                raise BrokerError(f"{self.name} ended with {self.proc.returncode}:\n{self.log_text()}")
            if time.monotonic() > deadline:
                self.kill9()
                raise BrokerError(f"{self.name} was not ready in time:\n{self.log_text()}")
            time.sleep(0.01)
        return self

    def stop(self, timeout_s: float = 60.0) -> int:
        """A clean end by SIGTERM; returns the exit code. A process that does not end is killed."""
        if self.proc is None:
            return 0
        self._signal(signal.SIGTERM)
        try:
            code = self.proc.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill9()
            raise BrokerError(f"{self.name} did not end within {timeout_s} s of SIGTERM:\n{self.log_text()}")
        self.proc = None
        return code

    def kill9(self):
        if self.proc is not None:
            self._signal(signal.SIGKILL)
            self.proc.wait()
            self.proc = None

    def restart(self):
        self.stop()
        return self.start()

    def close(self):
        """The end of the broker and of its folder."""
        try:
            if self.proc is not None:
                self.kill9()
        finally:
            if not os.environ.get("MQGATE_KEEP"):
                shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self.start() if self.proc is None else self

    def __exit__(self, *_):
        self.close()

    def _signal(self, number):
        if self.proc.poll() is None:
            os.kill(self.proc.pid, number)

    # -- looking inside -----------------------------------------------------------------------
    @property
    def pid(self) -> int:
        return self.proc.pid

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@{self.host}:{self.amqp_port}/%2F"

    def rss_bytes(self) -> int:
        """Resident memory of the broker's process."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        return 0

    def alive(self) -> bool:
        return self.proc is not None and self.proc.poll() is None

    def log_text(self, last_bytes: int = 8000) -> str:
        if not self.log_path.exists():
            return ""
        return self.log_path.read_bytes()[-last_bytes:].decode("utf-8", "replace")

    def _log_now(self) -> str:
        """The log of the present run."""
        with open(self.log_path, "rb") as log:
            log.seek(self._log_start)
            return log.read().decode("utf-8", "replace")

    def check_log(self):
        """Raises when a sanitizer or an assertion has spoken in the log."""
        if not self.log_path.exists():
            return
        lines = self.log_path.read_text(errors="replace").splitlines()
        bad = [n for n, line in enumerate(lines) if TROUBLE.search(line)]
        if bad:
            raise BrokerError("\n".join(lines[bad[0]:bad[0] + 40]))

    def ctl(self, *args, check: bool = True, timeout_s: float = 60.0) -> str:
        """One administrative command in rabbitmqctl's words; returns what it printed."""
        done = subprocess.run([*self._ctl_command(), *args], env=self._ctl_env(), text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout_s)
        if check and done.returncode != 0:
            raise BrokerError(f"{' '.join(args)}: exit {done.returncode}: {done.stdout}")
        return done.stdout

    def write_ctl_wrapper(self, folder: Path) -> Path:
        """Puts a `rabbitmqctl` for this broker into a folder that a suite may have on its PATH."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "rabbitmqctl"
        own = {k: v for k, v in self._ctl_env().items() if os.environ.get(k) != v}
        exports = "".join(f"export {k}='{v}'\n" for k, v in own.items())
        command = " ".join(f"'{part}'" for part in self._ctl_command())
        path.write_text(f"#!/bin/sh\n{exports}exec {command} \"$@\"\n")
        path.chmod(0o755)
        return path


class Gateway(Broker):
    """build/mqgate with its data in a temporary folder; `settings` are --set section.key=value."""

    name = "mqgate"
    is_rabbitmq = False
    ready = re.compile(r"event=ready\b(.*)")

    def __init__(self, settings: dict = None, amqp: str = "127.0.0.1:0", http: str = "127.0.0.1:0",
                 wrapper: list = None):
        super().__init__()
        self.binary = build_dir() / "mqgate"
        self.wrapper = wrapper or []
        self.settings = {"listeners.amqp": amqp, "listeners.http": http,
                         **{f"listeners.{name}": "off" for name in LISTENERS},
                         "store.journal.path": str(self.folder / "journal")}
        if (build_dir() / "modules").is_dir():
            self.settings["modules.path"] = str(build_dir() / "modules")
        self.settings.update(settings or {})
        for pair in os.environ.get("MQGATE_SET", "").split():
            key, value = pair.split("=", 1)
            self.settings[key] = value
        self.conf = self.folder / "mqgate.conf"
        self.conf.write_text("[node]\ndrain_timeout = 2s\n\n[store]\ndefault = journal\n\n"
                             "[store.journal]\ntype = journal\n")

    @staticmethod
    def missing() -> str:
        binary = build_dir() / "mqgate"
        return "" if os.access(binary, os.X_OK) else f"{binary} is not built"

    def _spawn(self, log):
        command = [*self.wrapper, str(self.binary), "--config", str(self.conf)]
        for key, value in self.settings.items():
            command += ["--set", f"{key}={value}"]
        return subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.folder)

    def _ready(self, text):
        match = self.ready.search(text)
        if not match:
            return False
        found = re.findall(r"\b(\w+)=\"?[^\s,\"]*:(\d+)", match.group(1))
        self.ports = {name: int(port) for name, port in found}
        self.amqp_port = self.ports.get("amqp", 0)
        self.http_port = self.ports.get("http", 0)
        return True

    def _ctl_command(self):
        return [str(build_dir() / "mqgatectl"), "--url", f"http://{self.host}:{self.http_port}", "rabbitmqctl"]

    def _ctl_env(self):
        return dict(os.environ)


class Running(Gateway):
    """A gateway that somebody else started, on its default ports (./run); it is left running."""

    name = "running"

    def __init__(self):
        super().__init__()
        self.amqp_port, self.http_port = 5672, 15672

    def start(self):
        if not self.alive():
            raise BrokerError("nothing listens on 127.0.0.1:5672; start it with ./run")
        return self

    def alive(self):
        with socket.socket() as probe:
            return probe.connect_ex((self.host, self.amqp_port)) == 0

    def stop(self, timeout_s=0):
        return 0

    def check_log(self):
        pass


class RabbitMQ(Broker):
    """Debian's rabbitmq-server as an unprivileged user with an epmd of its own."""

    name = "rabbitmq"
    is_rabbitmq = True
    start_timeout_s = 60.0

    def __init__(self, config: str = "", port: int = 0, plugins: str = "", amqps: int = 0):
        super().__init__()
        self.ports["amqps"] = amqps
        self.epmd = None
        self.epmd_port = free_port()
        self.amqp_port = port or free_port()
        self.dist_port = free_port()
        self.user = None
        (self.folder / "plugins").write_text(f"[{plugins}].\n")
        (self.folder / "rmq.conf").write_text(config + "\n")
        (self.folder / "home").mkdir()
        if os.geteuid() == 0:
            self.user = "rabbitmq"
            owner = pwd.getpwnam(self.user)
            for path in [self.folder, *self.folder.iterdir()]:
                os.chown(path, owner.pw_uid, owner.pw_gid)

    @staticmethod
    def missing() -> str:
        server = RABBIT_BIN / "rabbitmq-server"
        return "" if server.exists() else f"{server} is not installed (package rabbitmq-server)"

    def _rabbit_env(self):
        base = str(self.folder)
        return {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8",
            "HOME": base + "/home", "ERL_EPMD_PORT": str(self.epmd_port), "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"mqt{self.amqp_port}@localhost", "RABBITMQ_NODE_IP_ADDRESS": self.host,
            "RABBITMQ_NODE_PORT": str(self.amqp_port), "RABBITMQ_DIST_PORT": str(self.dist_port),
            "RABBITMQ_MNESIA_BASE": base + "/mnesia", "RABBITMQ_LOG_BASE": base + "/log",
            "RABBITMQ_LOGS": "-", "RABBITMQ_ENABLED_PLUGINS_FILE": base + "/plugins",
            "RABBITMQ_CONFIG_FILE": base + "/rmq", "RABBITMQ_CONF_ENV_FILE": base + "/env",
            "RABBITMQ_PID_FILE": base + "/pid",
            # Without this each idle scheduler spins and takes CPU from the tests.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none +sbwtdcpu none +sbwtdio none",
        }

    def _popen(self, command, log):
        return subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, user=self.user,
                                group=self.user, extra_groups=[] if self.user else None,
                                env=self._rabbit_env(), cwd=self.folder, start_new_session=True)

    def _spawn(self, log):
        if self.epmd is None:
            self.epmd = self._popen(["epmd", "-port", str(self.epmd_port)], log)
            wait_until(self._epmd_listens, 10, "epmd listens")
        return self._popen([str(RABBIT_BIN / "rabbitmq-server")], log)

    def _epmd_listens(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.epmd_port)) == 0

    def _ready(self, text):
        return "Server startup complete" in text

    def _signal(self, number):
        # The shell script stays the parent of the Erlang machine, so the signal goes to their group.
        if self.proc.poll() is None:
            os.killpg(self.proc.pid, number)

    @property
    def pid(self):
        return int((self.folder / "pid").read_text())

    def close(self):
        try:
            if self.proc is not None:
                self.kill9()
            if self.epmd is not None:
                self.epmd.kill()
                self.epmd.wait()
        finally:
            super().close()

    def _ctl_command(self):
        return [str(RABBIT_BIN / "rabbitmqctl")]

    def _ctl_env(self):
        return self._rabbit_env()

    def ctl(self, *args, check=True, timeout_s=30.0):
        return super().ctl("-q", *args, check=check, timeout_s=timeout_s)


BROKERS = {"mqgate": Gateway, "running": Running, "rabbitmq": RabbitMQ}


def chosen_name() -> str:
    """The broker that this run is against: MQGATE_BROKER, else the gateway."""
    name = os.environ.get("MQGATE_BROKER", "mqgate")
    if name not in BROKERS:
        raise BrokerError(f"MQGATE_BROKER={name}: known are {', '.join(BROKERS)}")
    return name
