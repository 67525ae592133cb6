"""The daemon as its operator meets it: options, configuration, refusals, signals, TLS, proxies, systemd."""
import json
import os
import re
import resource
import signal
import socket
import ssl
import struct
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pika
import pytest
from mqtest.broker import ROOT, Gateway, build_dir, wait_until

AMQP_HEADER = b"AMQP\x00\x00\x09\x01"


def mqgate(*args, env=None):
    """Runs the daemon for a question that it answers and ends."""
    command = [str(build_dir() / "mqgate"), *args]
    if not any(arg.startswith("modules.path=") for arg in args):
        command += ["--set", f"modules.path={build_dir() / 'modules'}"]
    return subprocess.run(command, text=True, capture_output=True, timeout=60, env={**os.environ, **(env or {})})


@pytest.fixture
def gateway():
    """Makes gateways with settings of their own; all end with the test."""
    made = []

    def make(**settings):
        fixed = {key.replace("__", "."): value for key, value in settings.items()}
        made.append(Gateway(settings={"listeners.http": "off", **fixed}))
        return made[-1]

    yield make
    for one in made:
        one.close()


def connect(port):
    sock = socket.create_connection(("127.0.0.1", port), timeout=60)
    return sock


def refused(one):
    """Starts a gateway that must not start: the text of its refusal."""
    done = subprocess.run([str(one.binary), "--config", str(one.conf),
                           *[word for k, v in one.settings.items() for word in ("--set", f"{k}={v}")]],
                          text=True, capture_output=True, timeout=60)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if "event=stop" in line]
    assert len(lines) == 1, done.stderr
    return lines[0]


# -- the command line -------------------------------------------------------------------------
def test_version_and_help():
    assert re.fullmatch(r"mqgate \d+\.\d+\.\d+\n", mqgate("--version").stdout)
    assert "--check-config" in mqgate("--help").stdout


@pytest.mark.parametrize("args, says", [
    (["--nonsense"], "unknown option --nonsense; see --help"),
    (["--config"], "--config needs a value; see --help"),
    (["word"], "word is no option; see --help"),
])
def test_bad_options(args, says):
    done = subprocess.run([str(build_dir() / "mqgate"), *args], text=True, capture_output=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr == f"mqgate: {says}\n"


# -- the configuration --------------------------------------------------------------------------
def test_shipped_configuration_is_good():
    done = mqgate("--config", str(ROOT / "conf/mqgate.conf"), "--check-config")
    assert (done.returncode, done.stdout) == (0, "the configuration is good\n"), done.stderr


def printed_keys(text):
    section, keys = "", set()
    for line in text.splitlines():
        line = line.removeprefix("# ").removeprefix("#")
        if match := re.fullmatch(r"\[([a-z_.]+)\]", line):
            section = match.group(1)
        elif match := re.match(r"([a-z_]+) =", line):
            keys.add(f"{section}.{match.group(1)}")
    return keys


def test_shipped_configuration_names_every_key():
    printed = printed_keys(mqgate("--set", "store.memory.type=memory", "--print-config").stdout)
    shipped = printed_keys((ROOT / "conf/mqgate.conf").read_text())
    # Keys of all stores are printed under each; the shipped file has each key once.
    keys = {key.split(".")[-1] for key in shipped if key.startswith("store.")}
    missing = {key for key in printed - shipped if not key.startswith("store.") or key.split(".")[-1] not in keys}
    assert not missing


def values(text, pattern):
    """section.key -> value of the lines that the pattern fits; stores are one section."""
    section, found = "", {}
    for line in text.splitlines():
        if match := re.fullmatch(r"(?:# ?)?\[([a-z_.]+)\]", line):
            section = "store.*" if match.group(1).startswith("store.") else match.group(1)
        elif match := re.fullmatch(pattern, line):
            found[f"{section}.{match.group(1)}"] = match.group(2).strip()
    return found


def test_shipped_configuration_shows_the_defaults():
    """A key that is commented out there has the value that holds without it."""
    printed = mqgate("--set", "store.memory.type=memory", "--set", "store.other.type=kafka", "--print-config").stdout
    defaults = values(printed, r"([a-z_0-9]+) = (.*?) *; default")
    shipped = values((ROOT / "conf/mqgate.conf").read_text(), r"#([a-z_0-9]+) = ?(.*)")
    both = {key for key in defaults.keys() & shipped.keys() if defaults[key]} - {"store.*.type"}  # says which store it is
    assert len(both) > 60
    assert {key: shipped[key] for key in both} == {key: defaults[key] for key in both}


def test_printed_configuration_can_be_read_again(tmp_path):
    first = mqgate("--set", "node.workers=3", "--print-config").stdout
    assert "workers = 3  ; --set\n" in first
    (tmp_path / "again.conf").write_text(first)
    again = mqgate("--config", str(tmp_path / "again.conf"), "--print-config").stdout
    assert re.search(r"workers = 3  ; .*again.conf:\d+\n", again)


@pytest.mark.parametrize("setting, says", [
    ("listeners.ampq=off", "--set: unknown key listeners.ampq; did you mean listeners.amqp?"),
    ("node.workers=x", "--set: node.workers=x: expected a whole number, from 0 to 64"),
    ("listeners.rest=127.0.0.1:0", "--set: listeners.rest needs the module rest, which is not in "),
    ("listeners.amqps=127.0.0.1:0", "--set: listeners.amqps needs tls.cert and tls.key"),
    ("tls.cert=/nonexistent", "--set: tls.cert needs tls.key, its private key"),
])
def test_check_config_says_what_would_be_right(setting, says):
    done = mqgate("--set", setting, "--check-config")
    assert done.returncode == 1
    assert done.stderr.startswith(f"mqgate: {says}"), done.stderr


def test_environment_is_between_file_and_option(tmp_path):
    (tmp_path / "some.conf").write_text("[node]\nworkers = 1\nname = file\n")
    done = mqgate("--config", str(tmp_path / "some.conf"), "--set", "node.workers=3", "--print-config",
                  env={"MQGATE__NODE__WORKERS": "2", "MQGATE__NODE__NAME": "environ"})
    assert "workers = 3  ; --set\n" in done.stdout
    assert "name = environ  ; environment MQGATE__NODE__NAME\n" in done.stdout


# -- starts that are refused -----------------------------------------------------------------------
def test_address_in_use_names_the_holder(gateway):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        line = refused(gateway(listeners__amqp=f"127.0.0.1:{port}"))
    assert f"127.0.0.1:{port} is in use by " in line and f"(pid {os.getpid()})" in line
    assert f"--set listeners.amqp=127.0.0.1:{port + 1} moves it" in line


def test_address_in_use_names_the_holder_for_http_too(gateway):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        line = refused(gateway(listeners__http=f"127.0.0.1:{port}"))
    assert f"127.0.0.1:{port} is in use by " in line and f"(pid {os.getpid()})" in line
    assert "--port-offset" in line


def test_second_process_on_the_same_folder(gateway):
    first = gateway()
    first.start()
    second = gateway(store__journal__path=first.settings["store.journal.path"])
    assert "journal" in refused(second)
    assert first.alive()


def test_modules_folder_that_is_not_there(gateway):
    assert "modules.path=/nonexistent cannot be read" in refused(gateway(modules__path="/nonexistent"))


def test_modules_are_found_beside_a_daemon_that_was_not_installed():
    done = subprocess.run([str(build_dir() / "mqgate"), "--print-config"], text=True, capture_output=True, timeout=60)
    assert f"path = {build_dir().resolve() / 'modules'}  ; default beside the daemon" in done.stdout


def test_store_type_without_module(gateway):
    assert "nosuch" in refused(gateway(store__default="nosuch"))


# -- signals ------------------------------------------------------------------------------------------
def amqp_connection(one):
    return pika.BlockingConnection(pika.URLParameters(one.url))


def test_sigterm_closes_politely_and_exits_0(gateway):
    one = gateway().start()
    connection = amqp_connection(one)
    one.proc.send_signal(signal.SIGTERM)
    with pytest.raises(pika.exceptions.ConnectionClosedByBroker) as closed:
        for _ in range(400):
            connection.process_data_events(0.1)
    assert closed.value.reply_code == 320
    assert one.proc.wait(30) == 0
    assert "event=stop exit=0 why=SIGTERM" in one.log_text()


def test_client_that_ignores_the_goodbye_is_waited_for_no_longer_than_that(gateway):
    one = gateway(node__drain_timeout="700ms").start()
    with connect(one.amqp_port) as sock:
        sock.sendall(AMQP_HEADER)
        assert sock.recv(4096)
        begun = time.monotonic()
        one.proc.send_signal(signal.SIGTERM)
        assert one.proc.wait(30) == 0
        assert time.monotonic() - begun < 15


def test_second_sigterm_ends_the_waiting(gateway):
    one = gateway(node__drain_timeout="60s").start()
    connection = amqp_connection(one)
    one.proc.send_signal(signal.SIGTERM)
    wait_until(lambda: "event=drain state=begun" in one.log_text(), what="draining")
    one.proc.send_signal(signal.SIGTERM)
    assert one.proc.wait(30) == 0
    del connection


def test_no_new_connections_while_draining(gateway):
    one = gateway(node__drain_timeout="60s").start()
    connection = amqp_connection(one)
    one.proc.send_signal(signal.SIGTERM)
    wait_until(lambda: "event=drain state=begun" in one.log_text(), what="draining")
    with pytest.raises(OSError):
        connect(one.amqp_port)
    one.proc.send_signal(signal.SIGTERM)
    one.proc.wait(30)
    del connection


def test_sighup_reads_the_configuration_again(gateway):
    one = gateway()
    log = one.folder / "own.log"
    one.conf.write_text(one.conf.read_text() + f"\n[log]\nfile = {log}\n")
    one.log_path = log
    one.start()
    rotated = one.folder / "rotated.log"
    log.rename(rotated)
    one.conf.write_text(one.conf.read_text() + "level = debug\n[modules]\npath = /elsewhere\n[log]\n")
    one.proc.send_signal(signal.SIGHUP)
    wait_until(lambda: log.exists() and "event=reload result=ok" in log.read_text(), what="reload")
    one.conf.write_text(one.conf.read_text() + "nonsense = 1\n")
    one.proc.send_signal(signal.SIGHUP)
    wait_until(lambda: "event=reload result=refused" in log.read_text(), what="refused reload")
    assert "unknown key log.nonsense" in log.read_text()
    amqp_connection(one).close()
    assert "level=debug" in log.read_text()


def test_sighup_changes_who_may_come_without_a_password(gateway):
    one = gateway(listeners__http="127.0.0.1:0").start()
    url = f"http://127.0.0.1:{one.ports['http']}/api/whoami"
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(url, timeout=60)
    one.conf.write_text(one.conf.read_text() + "\n[auth]\nanonymous = on\n")
    one.proc.send_signal(signal.SIGHUP)
    wait_until(lambda: "event=reload result=ok" in one.log_text(), what="reload")
    with urllib.request.urlopen(url, timeout=60) as answer:
        assert json.load(answer)["name"] == "guest"


def test_connections_beyond_the_open_files(gateway):
    """A limit that the system does not allow for is said; one that it allows is not."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    one = gateway(limits__connections="10000000")
    one.start()
    said = re.search(r"event=config limits.connections=10000000 open_files=(\d+) why=.*LimitNOFILE", one.log_text())
    if said:
        assert int(said[1]) == most
    else:  # where the system lets it have that many, it has
        assert re.search(r"Max open files +100\d{5}", Path(f"/proc/{one.proc.pid}/limits").read_text())
    other = gateway(limits__connections=str(most // 2))
    other.start()
    assert "open_files=" not in other.log_text()


def test_definitions_are_in_the_log_when_it_is_asked(gateway):
    one = gateway(log__level="debug").start()
    connection = amqp_connection(one)
    channel = connection.channel()
    channel.exchange_declare("an x", "topic")
    channel.queue_declare("q1", durable=True)
    channel.queue_bind("q1", "an x", "k")
    channel.queue_delete("q1")
    connection.close()
    text = one.log_text()
    for line in ('event=define exchange="an x" vhost=/ change=made', "event=define queue=q1 vhost=/ change=made",
                 'event=define binding="an x" vhost=/ change=made to=q1', "event=define queue=q1 vhost=/ change=removed"):
        assert line in text


# -- connections -----------------------------------------------------------------------------------------
def test_login_has_a_deadline(gateway):
    one = gateway(limits__login_timeout="300ms").start()
    with connect(one.amqp_port) as sock:
        sock.sendall(AMQP_HEADER[:4])
        begun = time.monotonic()
        assert sock.recv(100) == b""
        assert time.monotonic() - begun < 9.5  # the default is 10 s


def test_pika_byte_by_byte(gateway):
    one = gateway(node__debug_dribble="on").start()
    connection = amqp_connection(one)
    channel = connection.channel()
    channel.confirm_delivery()
    channel.queue_declare("dribble", durable=True)
    body = bytes(range(256)) * 20
    channel.basic_publish("", "dribble", body, pika.BasicProperties(headers={"a": 1, "b": "x" * 300}))
    method, properties, got = channel.basic_get("dribble", auto_ack=True)
    assert got == body and properties.headers["b"] == "x" * 300
    connection.close()


def test_too_many_connections(gateway):
    one = gateway(limits__connections="2").start()
    first, second = amqp_connection(one), amqp_connection(one)
    with connect(one.amqp_port) as third:
        assert third.recv(10) == b""
    first.close()
    wait_until(lambda: can_connect(one), what="a free place")
    second.close()


def can_connect(one):
    try:
        amqp_connection(one).close()
        return True
    except pika.exceptions.AMQPError:
        return False


@pytest.mark.parametrize("first, looks", [
    (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "=HTTP"),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "=TLS"),
    (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", "=\"a PROXY header, see listeners.proxy_protocol\""),
])
def test_the_log_says_who_knocked_at_the_wrong_port(gateway, first, looks):
    one = gateway().start()
    with connect(one.amqp_port) as sock:
        sock.sendall(first)
        while sock.recv(100):
            pass
    wait_until(lambda: f"first_bytes_look_like{looks}" in one.log_text(), what="the guess in the log")


# -- a proxy before it ----------------------------------------------------------------------------------------
def proxy_header(source):
    return b"\r\n\r\n\0\r\nQUIT\n" + struct.pack("!BBH4s4sHH", 0x21, 0x11, 12, socket.inet_aton(source),
                                                 socket.inet_aton("192.0.2.9"), 4711, 5672)


def test_address_in_the_proxy_header_counts(gateway):
    one = gateway(listeners__proxy_protocol="amqp", log__level="debug").start()
    with connect(one.amqp_port) as sock:
        sock.sendall(proxy_header("192.0.2.1") + AMQP_HEADER)
        assert sock.recv(4096)[:1] == b"\x01"
    wait_until(lambda: "peer=192.0.2.1:4711" in one.log_text(), what="the announced address in the log")
    with connect(one.amqp_port) as sock:
        sock.sendall(AMQP_HEADER)
        assert sock.recv(4096) == b""


# -- TLS -------------------------------------------------------------------------------------------------------
@pytest.fixture
def certificate(tmp_path):
    def make(name):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                        "-days", "1", "-subj", f"/CN={name}", "-keyout", str(tmp_path / "key.pem"), "-out",
                        str(tmp_path / "cert.pem")], check=True, capture_output=True)
        return {"tls__cert": str(tmp_path / "cert.pem"), "tls__key": str(tmp_path / "key.pem")}
    return make


def server_certificate(port):
    return ssl.get_server_certificate(("127.0.0.1", port))


def test_tls_and_its_reload(gateway, certificate, tmp_path):
    one = gateway(listeners__amqps="127.0.0.1:0", **certificate("first")).start()
    context = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
    context.check_hostname = False
    options = pika.SSLOptions(context)
    connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", one.ports["amqps"], ssl_options=options))
    channel = connection.channel()
    channel.queue_declare("tls", exclusive=True)
    channel.basic_publish("", "tls", b"x" * 300000)
    wait_until(lambda: channel.basic_get("tls", auto_ack=True)[2] == b"x" * 300000, what="the message")
    before = server_certificate(one.ports["amqps"])
    certificate("second")
    one.proc.send_signal(signal.SIGHUP)
    wait_until(lambda: server_certificate(one.ports["amqps"]) != before, what="the new certificate")
    channel.queue_declare("tls", passive=True)  # the old connection lives
    connection.close()


# -- systemd -----------------------------------------------------------------------------------------------------
def test_systemd_is_told(gateway, monkeypatch):
    one = gateway()
    path = str(one.folder / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(path)
        sock.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        one.start()
        told = [sock.recv(1000)]
        while b"READY=1" not in told[-1]:
            told.append(sock.recv(1000))
        one.proc.send_signal(signal.SIGTERM)
        while b"STOPPING=1" not in told[-1]:
            told.append(sock.recv(1000))
    assert one.proc.wait(30) == 0
