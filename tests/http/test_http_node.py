"""The node over the API: overview, health, metrics; pages and columns; hostile requests; slow listings."""
import http.client
import json
import re
import socket
import ssl
import subprocess
import threading

import pytest

from api import Api
from mqtest.broker import Gateway, wait_until


def test_overview(api, amqp):
    amqp.connect().channel()
    got = api.get("overview").expect(200, product_name="mqgate", state="running")
    assert got["object_totals"]["connections"] >= 1 and got["object_totals"]["channels"] >= 1
    assert got["object_totals"]["exchanges"] >= 7 and "messages" in got["queue_totals"]
    assert {"direct", "fanout", "headers", "topic"} == {t["name"] for t in got["exchange_types"]}
    ports = {x["protocol"]: x["port"] for x in got["listeners"]}
    assert ports == {"amqp": api.broker.amqp_port, "http": api.broker.http_port}
    nodes = api.get("nodes").expect(200)
    assert [(n["name"], n["running"], int(n["os_pid"])) for n in nodes] == [(got["node"], True, api.broker.pid)]
    api.get("nodes", got["node"]).expect(200, name=got["node"])
    api.get("nodes", "other").expect(404)


def test_health(api):
    for parts in (("healthchecks", "node"), ("health", "checks", "alarms"), ("health", "checks", "local-alarms"),
                  ("health", "checks", "virtual-hosts"), ("aliveness-test", "/"), ("aliveness-test", "/")):
        assert api.get(*parts).expect(200) == {"status": "ok"}
    api.get("aliveness-test", "nowhere").expect(404)
    api.delete("queues", "/", "aliveness-test").expect(204)


def samples(text):
    return {line.split()[0]: float(line.split()[1]) for line in text.splitlines() if line and line[0] != "#"}


def test_metrics(api, amqp, broker):
    answer = Api(broker, None).raw("GET", "/metrics")
    assert answer.status == 200 and answer.headers["content-type"].startswith("text/plain")
    text = answer.data.decode()
    for line in text.splitlines():
        assert re.match(r"# (HELP|TYPE) [a-z_]+ .+|[a-z_]+(\{[^{}]*\})? -?[0-9.e+]+$", line), line
    before = samples(text)
    ch = amqp.connect().channel()
    queue = amqp.queue(ch)
    ch.confirm_delivery()
    for _ in range(5):
        ch.basic_publish("", queue, b"xyz")
    after = samples(Api(broker, None).raw("GET", "/metrics").data.decode())
    assert after["mqgate_messages_published_total"] - before["mqgate_messages_published_total"] == 5
    assert after["mqgate_queue_messages_ready"] - before["mqgate_queue_messages_ready"] == 5
    assert after["mqgate_connections"] >= 1 and after["mqgate_workers"] >= 1


def test_pages(api, vhost):
    names = [f"page-{i:02}" for i in range(25)]
    for name in reversed(names):
        api.put("queues", vhost, name, body={}).expect(201)
    assert api.names("queues", vhost) == names
    got = api.get("queues", vhost, query="?page=2&page_size=10").expect(
        200, page=2, page_size=10, page_count=3, item_count=10, total_count=25, filtered_count=25)
    assert [q["name"] for q in got["items"]] == names[10:20]
    got = api.get("queues", vhost, query="?page=1&page_size=5&name=1&sort=name&sort_reverse=true").expect(
        200, filtered_count=12, total_count=25, page_count=3)
    assert [q["name"] for q in got["items"]] == ["page-21", "page-19", "page-18", "page-17", "page-16"]
    got = api.get("queues", vhost, query="?page=1&name=" + "%5Epage-0%5B1-3%5D%24&use_regex=true&columns=name,vhost").json
    assert got["items"] == [{"name": f"page-0{i}", "vhost": vhost} for i in (1, 2, 3)]
    assert api.get("queues", vhost, query="?columns=name,message_stats.publish").json[0] == {
        "name": names[0], "message_stats": {"publish": 0}}
    api.get("queues", vhost, query="?page=4&page_size=10").expect(400, error="page_out_of_range")
    for bad in ("page=0", "page=x", "page=-1", "page=1&page_size=0", "page=1&page_size=501", "page=99999999999999999999"):
        api.get("queues", vhost, query="?" + bad).expect(400, reason="Pagination parameters are invalid")
    api.get("queues", vhost, query="?page=1&use_regex=true&name=(").expect(400, error="bad_request")


def test_columns_of_one(api):
    assert api.get("overview", query="?columns=product_name,queue_totals.messages").json.keys() == {
        "product_name", "queue_totals"}


def test_trace(api, broker, amqp):
    api.put("mqgate", "trace", "amqp").expect(204)
    amqp.connect().channel().close()
    api.delete("mqgate", "trace", "amqp").expect(204)
    api.put("mqgate", "trace", "x" * 40).expect(400)


BAD_REQUESTS = {
    "not there": ("GET", "/api/nothing", None, 404),
    "not ours": ("GET", "/", None, 404),
    "too deep": ("GET", "/api/" + "a/" * 20, None, 400),
    "bad escape": ("GET", "/api/queues/%zz", None, 400),
    "cut escape": ("GET", "/api/queues/%2", None, 400),
    "NUL": ("GET", "/api/queues/a%00b", None, 400),
    "bad query": ("GET", "/api/queues?name=%zz", None, 400),
    "long path": ("GET", "/api/queues/" + "a" * 9000, None, 414),
    "wrong method": ("POST", "/api/overview", b"{}", 405),
    "unknown method": ("PATCH", "/api/overview", None, 501),
    "not json": ("PUT", "/api/queues/%2F/q", b"{bad", 400),
    "not an object": ("PUT", "/api/queues/%2F/q", b"[1]", 400),
    "not utf-8": ("PUT", "/api/queues/%2F/q", b'{"a":"\xff"}', 400),
    "deep json": ("PUT", "/api/queues/%2F/q", b'{"arguments":' + b"[" * 100000, 400),
    "deep arguments": ("PUT", "/api/queues/%2F/q", b'{"arguments":' + b'{"a":' * 40 + b"1" + b"}" * 41, 400),
    "large body": ("PUT", "/api/queues/%2F/q", b"{" + b" " * (1 << 20) + b"}", 413),
    "long queue name": ("PUT", "/api/queues/%2F/" + "q" * 256, b"{}", 400),
}


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_refused(api, name):
    method, path, data, status = BAD_REQUESTS[name]
    answer = api.raw(method, path, data)
    assert answer.status == status, answer.data[:300]
    assert set(answer.json) == {"error", "reason"}
    api.get("whoami").expect(200)


def test_nobody_sends_a_large_body(broker):
    assert Api(broker, "nobody", "x").raw("PUT", "/api/vhosts/x", b" " * (1 << 22)).status == 401


def test_endless_body(api, broker):
    with socket.create_connection((broker.host, broker.http_port)) as sock:
        sock.settimeout(10)
        sock.sendall(b"PUT /api/vhosts/x HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\n")
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            for _ in range(1000):
                sock.sendall(b" " * 65536)
    api.get("whoami").expect(200)


def test_allow_header(api):
    assert api.raw("POST", "/api/queues").headers["allow"] == "GET, HEAD"
    assert api.raw("POST", "/api/vhosts/x", b"{}").headers["allow"] == "GET, HEAD, PUT, DELETE"


def test_head(api):
    answer = api.raw("HEAD", "/api/whoami")
    assert answer.status == 200 and answer.data == b"" and int(answer.headers["content-length"]) > 10


def test_other_origin_changes_nothing(api):
    answer = api.raw("PUT", "/api/vhosts/evil", b"", {"Origin": "http://evil.example"})
    answer.expect(403, error="forbidden")
    api.get("vhosts", "evil").expect(404)
    here = f"http://{api.broker.host}:{api.broker.http_port}"
    api.raw("DELETE", "/api/vhosts/evil", None, {"Origin": here}).expect(404)


def chunked(api, pieces):
    def body():
        for piece in pieces:
            yield piece
    conn = http.client.HTTPConnection(api.broker.host, api.broker.http_port, timeout=60)
    try:
        conn.request("PUT", "/api/vhosts/chunked", body(), {"authorization": "Basic Z3Vlc3Q6Z3Vlc3Q="}, encode_chunked=True)
        return conn.getresponse().status
    finally:
        conn.close()


def test_chunked_body(api):
    assert chunked(api, [b"{", b"}"]) == 201
    api.delete("vhosts", "chunked").expect(204)
    assert chunked(api, [b" " * 65536] * 40) == 413
    api.get("vhosts", "chunked").expect(404)


def test_half_a_request(api, broker):
    """Clients that begin and never end hinder nobody."""
    socks = []
    try:
        for _ in range(50):
            sock = socket.create_connection((broker.host, broker.http_port))
            sock.sendall(b"PUT /api/queues/%2F/q HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
            socks.append(sock)
        api.get("whoami").expect(200)
    finally:
        for sock in socks:
            sock.close()
    api.get("queues", "/", "q").expect(404)


def test_garbage(api, broker):
    for data in (b"\x00" * 100, b"AMQP\x00\x00\x09\x01", b"GET", b"\r\n" * 1000, b"GET /" + b"a" * 200000):
        with socket.create_connection((broker.host, broker.http_port)) as sock:
            try:
                sock.sendall(data)
            except (BrokenPipeError, ConnectionResetError):
                pass
    api.get("whoami").expect(200)


def test_listing_while_things_change(api, vhost, amqp):
    """Queues and connections come and go under listings; no listing fails, no worker does."""
    failed = []
    stop = threading.Event()

    def listing():
        try:
            while not stop.is_set():
                for parts in (("queues",), ("connections",), ("channels",), ("consumers",), ("bindings", vhost),
                              ("overview",)):
                    if api.get(*parts).status != 200:
                        failed.append(parts)
        except Exception as error:  # the thread must tell, not print
            failed.append(error)
    threads = [threading.Thread(target=listing) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for i in range(20):
            conn = amqp.connect(virtual_host=vhost)
            ch = conn.channel()
            for k in range(10):
                ch.queue_declare(f"churn-{k}", auto_delete=True)
                ch.queue_bind(f"churn-{k}", "amq.topic", f"a.{k}")
                ch.basic_consume(f"churn-{k}", print, auto_ack=True)
            conn.close()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failed == []
    wait_until(lambda: api.names("queues", vhost) == [], 5, "auto-delete")


def test_many_queues(api, vhost, amqp):
    ch = amqp.connect(virtual_host=vhost).channel()
    for i in range(1000):
        ch.queue_declare(f"many-{i}")
    assert len(api.get("queues", vhost).json) == 1000
    assert api.get("queues", vhost, query="?page=10&page_size=100").json["item_count"] == 100


def test_names_that_are_no_text(api, vhost, amqp):
    ch = amqp.connect(virtual_host=vhost).channel()
    ch.queue_declare("with\ttab \"quote\"")
    api.get("queues", vhost, "with\ttab \"quote\"").expect(200, name="with\ttab \"quote\"")


def test_listeners(broker_kind):
    """off, and two addresses."""
    with Gateway(http="off") as quiet:
        assert quiet.http_port == 0 and "http=" not in quiet.log_text()
    with Gateway(http="127.0.0.1:0,127.0.0.2:0") as two:
        ports = re.search(r"http=127.0.0.1:(\d+),127.0.0.2:(\d+)", two.log_text()).groups()
        for host, port in zip(("127.0.0.1", "127.0.0.2"), ports):
            conn = http.client.HTTPConnection(host, int(port), timeout=60)
            conn.request("GET", "/api/whoami", headers={"authorization": "Basic Z3Vlc3Q6Z3Vlc3Q="})
            assert json.loads(conn.getresponse().read())["name"] == "guest"
            conn.close()


def test_tls(broker_kind, tmp_path):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem")], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    settings = {"listeners.https": "127.0.0.1:0", "tls.cert": str(tmp_path / "cert.pem"), "tls.key": str(tmp_path / "key.pem")}
    with Gateway(settings) as made:
        port = int(re.search(r"https=127.0.0.1:(\d+)", made.log_text()).group(1))
        conn = http.client.HTTPSConnection("127.0.0.1", port, timeout=60,
                                           context=ssl._create_unverified_context())
        conn.request("GET", "/api/whoami", headers={"authorization": "Basic Z3Vlc3Q6Z3Vlc3Q="})
        assert json.loads(conn.getresponse().read())["name"] == "guest"
        conn.close()


def test_stop_while_asked(own_broker):
    """A stop under requests: each is answered or its connection closed, and the end is a clean one."""
    api = Api(own_broker)
    odd, stop = [], threading.Event()

    def ask(number):
        while not stop.is_set():
            try:
                status = api.put("queues", "/", f"q{number}", body={}).status
                got = api.get("connections").status
            except (OSError, http.client.HTTPException):
                return
            if not {status, got} <= {200, 201, 204, 503}:
                odd.append((status, got))
    threads = [threading.Thread(target=ask, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(api.get("queues").json) == 6, 5, "all ask")
    assert own_broker.stop() == 0
    stop.set()
    for thread in threads:
        thread.join()
    assert odd == []
    own_broker.start()
    assert len(api.get("queues").json) == 6


def test_address_in_use(broker, broker_kind):
    refused = Gateway(http=f"127.0.0.1:{broker.http_port}")
    try:
        with pytest.raises(Exception) as caught:
            refused.start()
        assert "listeners.http" in str(caught.value) and str(broker.http_port) in str(caught.value)
    finally:
        refused.close()
