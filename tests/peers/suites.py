"""The peers' suites: where each comes from, how it runs, how its results are read.

A suite's run() gets its source folder, a scratch folder and a broker, and returns {test name: outcome}, where the
outcome is passed, failed or skipped. `apart` names tests that cannot run here by their nature, with the reason;
they are counted apart and never as passed.
"""
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

from mqtest import broker as brokers
from mqtest.certs import Authority

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"
HERE = Path(__file__).resolve().parent


class Suite:
    name = package = version = pypi = ""
    reference = "rabbitmq"  # the broker that ours is held against
    port = 5672            # these suites know no other
    limit_s = 600
    plugins = ""           # of RabbitMQ
    needs = ()             # what must be importable or on the PATH: (command, Debian package)
    apart = {}             # pattern of test names -> why it is counted apart

    def prepare(self, source, scratch):
        """The folder to run in; the source itself is left as it came."""
        return source

    def settings(self, source):
        """--set options for the gateway, and configuration lines for RabbitMQ."""
        return {}, ""

    def broker(self, which, source):
        """A broker to run against, not started: the reference, or the gateway."""
        ours, theirs = self.settings(source)
        if which == "mqgate":
            return brokers.Gateway(ours, amqp=f"127.0.0.1:{self.port}", http="127.0.0.1:15672")
        return brokers.RabbitMQ(theirs, port=self.port, plugins=self.plugins)

    def before(self, broker):
        """Accounts and vhosts that the suite expects."""

    def run(self, source, scratch, broker, env):
        raise NotImplementedError

    def missing(self):
        """Why it cannot run here; fetches what it needs besides its source, since it runs where there is no network."""
        for probe, package in self.needs:
            if subprocess.run(probe, shell=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
                return f"package {package} is not installed"
        return ""

    def reason_apart(self, test):
        return next((why for pattern, why in self.apart.items() if re.search(pattern, test)), "")

    def command(self, command, env, cwd, log):
        """Runs within the suite's time; what it has not said by then has failed."""
        with open(log, "ab") as out:
            try:
                return subprocess.run([str(part) for part in command], env=env, cwd=cwd, stdout=out, stderr=out,
                                      stdin=subprocess.DEVNULL, timeout=self.limit_s).returncode
            except subprocess.TimeoutExpired:
                out.write(f"\nnot within {self.limit_s} s\n".encode())
                return 124


def python(module, package):
    return f"{sys.executable} -c 'import {module}'", package


class PytestSuite(Suite):
    files = ()
    options = ()
    per_test_s = 60

    def run(self, source, scratch, broker, env):
        xml = scratch / "junit.xml"
        env = {**env, "PYTHONPATH": f"{source}:{HERE / 'plugins'}", "PYTHONDONTWRITEBYTECODE": "1"}
        self.command([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "peer_env", "-c",
                      os.devnull, "--rootdir", source, f"--junitxml={xml}", f"--timeout={self.per_test_s}",
                      *self.options, *self.files], env, source, scratch / "suite.log")
        return dict(self.read(xml)) if xml.exists() else {"(whole suite)": FAILED}

    @staticmethod
    def read(xml):
        for case in ElementTree.parse(xml).iter("testcase"):
            name = f"{case.get('classname', '').split('.')[-1]}::{case.get('name')}"
            kinds = {child.tag for child in case}
            yield name, FAILED if kinds & {"failure", "error"} else SKIPPED if "skipped" in kinds else PASSED


class Pika(PytestSuite):
    name, package, version = "pika", "python-pika", "1.2.0-1"
    needs = [python(module, f"python3-{module}") for module in ("tornado", "twisted", "gevent", "mock", "nose")]
    files = [f"tests/acceptance/{name}.py" for name in (
        "async_adapter_tests", "blocking_adapter_test", "enforce_one_basicget_test", "io_services_tests",
        "twisted_adapter_tests")]
    options = ("-o", "python_classes=Test*", "-o", "python_files=*.py")


class PyAmqp(PytestSuite):
    name, package, version, pypi = "py-amqp", "python-amqp", "5.1.1-1", "amqp==5.1.1"
    needs = [python("vine", "python3-vine")]
    files = ("t/integration",)
    options = ("-E", "rabbitmq", "-o", "python_classes=test_*")

    apart = {r"test_tls_(no_)?default_certs": "speaks to a host in the Internet"}

    def prepare(self, source, scratch):
        """With the certificates that its tests look for, which are not part of the release."""
        copy, authority = scratch / "source", Authority()
        shutil.copytree(source, copy)
        certs = copy / "t" / "certs"
        certs.mkdir(exist_ok=True)
        scratch.chmod(0o755)
        shutil.copy(authority.cert, certs / "ca_certificate.pem")
        for label in ("server", "client"):
            for kind, path in zip(("certificate", "key"), authority.issue("localhost", label)):
                shutil.copy(path, certs / f"{label}_{kind}.pem")
        for kind in ("certificate", "key"):
            (certs / f"client_{kind}_broken.pem").write_text("not one\n")
        shutil.rmtree(authority.folder)
        return copy

    def settings(self, source):
        certs = Path(source, "t/certs")
        files = {"cert": certs / "server_certificate.pem", "key": certs / "server_key.pem",
                 "ca": certs / "ca_certificate.pem"}
        ours = {"listeners.amqps": "127.0.0.1:5671", **{f"tls.{key}": str(path) for key, path in files.items()}}
        theirs = ("listeners.ssl.1 = 127.0.0.1:5671\n" + "".join(
            f"ssl_options.{key}file = {path}\n" for key, path in zip(("cert", "key", "cacert"), files.values())))
        return ours, theirs


class Kombu(PytestSuite):
    name, package, version, pypi = "kombu", "kombu", "5.2.4-1", "kombu==5.2.4"
    needs = [python("amqp", "python3-amqp"), python("vine", "python3-vine"), python("pytz", "python3-tz")]
    files = ("t/integration/test_py_amqp.py",)
    options = ("-E", "py-amqp", "-o", "python_classes=test_*")


class RabbitmqC(Suite):
    name, package, version = "rabbitmq-c", "librabbitmq", "0.11.0-1+deb12u2"
    needs = [("which cmake", "cmake"), ("which cc", "gcc")]

    def run(self, source, scratch, broker, env):
        build, log = scratch / "build", scratch / "suite.log"
        for command in (["cmake", "-S", source, "-B", build, "-DBUILD_TESTS=ON", "-DBUILD_EXAMPLES=OFF",
                         "-DBUILD_TOOLS=OFF", "-DENABLE_SSL_SUPPORT=OFF", "-DBUILD_STATIC_LIBS=ON",
                         "-DCMAKE_BUILD_TYPE=Release", "-DRUN_SYSTEM_TESTS=ON"],
                        ["cmake", "--build", build, "-j2"]):
            if self.command(command, env, scratch, log):
                return {"(build)": FAILED}
        self.command(["ctest", "--test-dir", build, "--output-junit", scratch / "junit.xml"], env, build, log)
        results = {name.split("::")[-1]: outcome for name, outcome in PytestSuite.read(scratch / "junit.xml")}
        # The one test of its own that talks to a broker is built, and left out of its own list.
        code = self.command([build / "tests" / "test_basic"], env, build, log)
        return {**results, "basic": FAILED if code else PASSED}


class Bunny(Suite):
    name, package, version = "bunny", "ruby-bunny", "2.19.0-2"
    needs = [("ruby -e 'require \"rspec\"; require \"amq/protocol\"'", "ruby-rspec ruby-amq-protocol")]
    limit_s = 900
    apart = {r"connection_recovery": "needs the management client of another gem",
             r"toxiproxy": "needs the toxiproxy server", r"tls_connection": "needs its certificates for the host's name",
             r"connection_stop": "needs the management client of another gem"}

    def settings(self, source):
        return {"limits.message_size": "64MiB"}, ""  # one spec sends 32 MB

    def before(self, broker):
        vhost = "bunny_testbed"
        broker.ctl("add_vhost", vhost)
        for user, password, write in (("bunny_gem", "bunny_password", ".*"),
                                      ("bunny_reader", "reader_password", "^---$")):
            broker.ctl("add_user", user, password)
            broker.ctl("set_permissions", "-p", vhost, user, write, write, ".*")
        broker.ctl("set_permissions", "-p", vhost, "guest", ".*", ".*", ".*")

    def run(self, source, scratch, broker, env):
        specs = sorted(Path(source, "spec/higher_level_api/integration").glob("*_spec.rb"))
        specs += sorted(Path(source, "spec/lower_level_api/integration").glob("*_spec.rb"))
        results = {}
        for spec in specs:
            label = spec.stem.removesuffix("_spec")
            if self.reason_apart(label):
                results[label] = SKIPPED
                continue
            results.update(self.run_spec(source, scratch, env, spec, label))
        return results

    def run_spec(self, source, scratch, env, spec, label):
        """One file at a time, so that one that hangs does not take the rest with it."""
        out = scratch / f"{label}.json"
        env = {key: value for key, value in env.items() if key != "CI"}  # else the specs leave a part out
        self.command(["timeout", "-k", "5", "90", "ruby", "-I", HERE / "plugins", "-I", source / "lib", "-S", "rspec", "--format",
                      "documentation", "--format", "json", "--out", out, spec], env, source, scratch / "suite.log")
        try:
            told = json.loads(out.read_text())
            examples = told["examples"]
            with open(scratch / "suite.log", "a") as log:
                log.write("\n".join(told.get("messages", [])))
        except (OSError, ValueError, KeyError):
            return {f"{label} (whole file)": FAILED}
        word = {"passed": PASSED, "failed": FAILED, "pending": SKIPPED}
        return {f"{label}: {example['full_description']}": word[example["status"]] for example in examples} or {
            f"{label} (whole file)": FAILED}


class StompPy(PytestSuite):
    name, package, version, pypi = "stomp.py", "python-stomp", "8.0.0-1", "stomp.py==8.0.0"
    needs = [python("docopt", "python3-docopt"), python("websocket", "python3-websocket"),
             python("pytest_mock", "python3-pytest-mock")]
    plugins = "rabbitmq_stomp"
    files = [f"tests/test_{name}.py" for name in (
        "basic", "context", "misc", "nonascii", "override_threading", "rabbitmq", "s10", "s11", "s12", "ss", "threading",
        "transport", "utils")]
    apart = {r"TestBasic::test_timeout$": "waits for a host in the Internet that does not answer"}

    def settings(self, source):
        return {"listeners.stomp": "127.0.0.1:61613"}, "stomp.listeners.tcp.1 = 127.0.0.1:61613\n"

    def before(self, broker):
        broker.ctl("add_user", "admin", "password")
        broker.ctl("set_permissions", "-p", "/", "admin", ".*", ".*", ".*")

    def run(self, source, scratch, broker, env):
        places = {f"{label}_{key}": value for label in ("STD", "RABBITMQ")
                  for key, value in (("HOST", "127.0.0.1"), ("PORT", "61613"))}
        return super().run(source, scratch, broker, {**env, **places, "STD_VHOST": "/"})
