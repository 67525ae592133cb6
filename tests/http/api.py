"""A client of the management API, and mqgatectl, as the tests use them."""
import base64
import http.client
import json
import os
import subprocess
from urllib.parse import quote

from mqtest.broker import build_dir


class Answer:
    def __init__(self, status, headers, data):
        self.status, self.headers, self.data = status, headers, data

    @property
    def json(self):
        return json.loads(self.data)

    def expect(self, status, **fields):
        """Has this status, and these fields in its JSON object; returns the JSON, or None."""
        assert self.status == status, f"{self.status} {self.data[:400]}"
        if not self.data:
            assert not fields
            return None
        value = self.json
        for key, want in fields.items():
            assert value[key] == want, f"{key}: {value[key]!r}"
        return value


def path_of(parts):
    return "/api/" + "/".join(quote(part, safe="") for part in parts)


class Api:
    def __init__(self, broker, user="guest", password="guest"):
        self.broker, self.user, self.password = broker, user, password

    def raw(self, method, path, data=None, headers=None):
        """One request; path as it goes out."""
        conn = http.client.HTTPConnection(self.broker.host, self.broker.http_port, timeout=60)
        login = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        send = {"authorization": f"Basic {login}"} if self.user is not None else {}
        try:
            conn.request(method, path, data, {**send, **(headers or {})})
            got = conn.getresponse()
            return Answer(got.status, got.headers, got.read())
        finally:
            conn.close()

    def call(self, method, parts, body=None, query="", headers=None):
        data = json.dumps(body).encode() if body is not None else None
        return self.raw(method, path_of(parts) + query, data, headers)

    def get(self, *parts, query=""):
        return self.call("GET", parts, query=query)

    def put(self, *parts, body=None):
        return self.call("PUT", parts, body)

    def post(self, *parts, body=None):
        return self.call("POST", parts, body)

    def delete(self, *parts, query="", headers=None):
        return self.call("DELETE", parts, query=query, headers=headers)

    def names(self, *parts, query="", key="name"):
        return [item[key] for item in self.get(*parts, query=query).expect(200)]

    def publish(self, vhost, exchange, key, payload, **properties):
        return self.post("exchanges", vhost, exchange, "publish",
                         body={"routing_key": key, "payload": payload, "payload_encoding": "string",
                               "properties": properties}).expect(200)["routed"]

    def fetch(self, vhost, queue, count=10, mode="ack_requeue_false", **more):
        return self.post("queues", vhost, queue, "get",
                         body={"count": count, "ackmode": mode, "encoding": "auto", **more}).expect(200)


class Ctl:
    """mqgatectl: run() gives (exit code, stdout, stderr)."""

    def __init__(self, broker):
        self.broker = broker

    def run(self, *args, stdin="", url=None, env=None):
        url = url or f"http://{self.broker.host}:{self.broker.http_port}"
        done = subprocess.run([str(build_dir() / "mqgatectl"), *args], input=stdin, text=True, timeout=60,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              env={**os.environ, "MQGATE_URL": url, **(env or {})})
        return done.returncode, done.stdout, done.stderr

    def good(self, *args, **more):
        """Succeeds; returns what it printed."""
        code, out, err = self.run(*args, **more)
        assert (code, err) == (0, ""), f"{args}: {code} {out} {err}"
        return out

    def rows(self, *args):
        """A listing as lists of cells, without the line of names."""
        return [line.split("\t") for line in self.good(*args, "-s").splitlines()]
