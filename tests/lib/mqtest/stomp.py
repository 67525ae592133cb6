"""A raw STOMP client: frames as they are on the wire, nothing done for the caller.

    c = Stomp(port).connect()
    c.send("SEND", {"destination": "/queue/q", "receipt": "1"}, b"body")
    c.expect("RECEIPT")["receipt-id"]
"""
import socket
import time
from unittest.mock import ANY

ESCAPES = {"1.0": {}, "1.1": {"\\": "\\\\", "\n": "\\n", ":": "\\c"},
           "1.2": {"\\": "\\\\", "\n": "\\n", ":": "\\c", "\r": "\\r"}}


def escape(text, version):
    return "".join(ESCAPES[version].get(letter, letter) for letter in text)


def unescape(text, version):
    out, at = "", 0
    back = {code[1]: letter for letter, code in ESCAPES[version].items()}
    while at < len(text):
        if text[at] == "\\" and version != "1.0":
            out, at = out + back[text[at + 1]], at + 2
        else:
            out, at = out + text[at], at + 1
    return out


class Frame:
    def __init__(self, command, headers, body):
        self.command, self.lines, self.body = command, headers, body
        self.headers = {}
        for name, value in headers:
            self.headers.setdefault(name, value)

    def __getitem__(self, name):
        return self.headers[name]

    def __contains__(self, name):
        return name in self.headers

    def get(self, name, default=None):
        return self.headers.get(name, default)

    def __repr__(self):
        return f"{self.command} {self.lines} {self.body[:80]!r}"


class Closed(Exception):
    """The server closed the connection."""


class Stomp:
    timeout_s = 30.0
    error_ends = True  # RabbitMQ's adapter goes on after most of its ERRORs

    def __init__(self, port, host="127.0.0.1", version="1.2", sock=None):
        self.sock = sock or socket.create_connection((host, port), timeout=self.timeout_s)
        self.version, self.data, self.beats = version, b"", 0
        self.early = []  # MESSAGEs that came before a RECEIPT that was waited for

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # -- out ----------------------------------------------------------------------------------
    def frame(self, command, headers=(), body=b"", length=None):
        pairs = list(headers.items()) if isinstance(headers, dict) else list(headers)
        if body and length is None and not any(name == "content-length" for name, _ in pairs):
            pairs.append(("content-length", str(len(body))))
        version = "1.0" if command in ("CONNECT", "STOMP") else self.version
        lines = [command] + [f"{escape(name, version)}:{escape(str(value), version)}" for name, value in pairs]
        return ("\n".join(lines) + "\n\n").encode() + body + b"\0"

    def send(self, command, headers=(), body=b"", **kw):
        self.raw(self.frame(command, headers, body, **kw))

    def raw(self, data):
        self.sock.sendall(data)

    def connect(self, user="guest", password="guest", **headers):
        names = {"accept-version": self.version, "host": "/", "login": user, "passcode": password}
        names.update({name.replace("_", "-"): value for name, value in headers.items()})
        self.send("CONNECT", {name: value for name, value in names.items() if value is not None})
        self.connected = self.expect("CONNECTED")
        return self

    def subscribe(self, destination, sub="0", **headers):
        names = {"destination": destination, "id": sub, "receipt": f"sub-{sub}"}
        names.update({name.replace("_", "-"): value for name, value in headers.items()})
        self.send("SUBSCRIBE", {name: value for name, value in names.items() if value is not None})
        assert self.receipt()["receipt-id"] == f"sub-{sub}"
        return self

    def put(self, destination, body=b"x", **headers):
        """Sends and waits for the receipt."""
        names = {"destination": destination, "receipt": "put"}
        names.update({name.replace("_", "-"): value for name, value in headers.items()})
        self.send("SEND", names, body)
        assert self.receipt()["receipt-id"] == "put"
        return self

    def receipt(self):
        """The next RECEIPT; MESSAGEs that come before it are kept for later."""
        early = []
        while (frame := self.next()).command == "MESSAGE":
            early.append(frame)
        assert frame.command == "RECEIPT", frame
        self.early = early + self.early
        return frame

    # -- in -----------------------------------------------------------------------------------
    def _fill(self, deadline):
        self.sock.settimeout(max(deadline - time.monotonic(), 0.001))
        data = self.sock.recv(65536)
        if not data:
            raise Closed(f"with {self.data!r} unread")
        self.data += data

    def _parse(self):
        while self.data[:1] in (b"\n", b"\r"):
            self.data, self.beats = self.data[1:], self.beats + 1
        head, sep, rest = self.data.partition(b"\n\n")
        if not sep:
            return None
        command, *lines = head.decode().split("\n")
        version = "1.0" if command == "CONNECTED" else self.version
        pairs = [tuple(unescape(part, version) for part in line.split(":", 1)) for line in lines]
        length = dict(reversed(pairs)).get("content-length")
        end = int(length) if length is not None else rest.find(b"\0")
        if end < 0 or len(rest) <= end:
            return None
        assert rest[end:end + 1] == b"\0", (head, rest[:200])
        self.data = rest[end + 1:]
        return Frame(command, pairs, rest[:end])

    def next(self, timeout_s=None):
        deadline = time.monotonic() + (self.timeout_s if timeout_s is None else timeout_s)
        if self.early:
            return self.early.pop(0)
        while True:
            frame = self._parse()
            if frame:
                return frame
            self._fill(deadline)

    def expect(self, command, timeout_s=None):
        frame = self.next(timeout_s)
        assert frame.command == command, frame
        return frame

    def error(self):
        """The ERROR frame, and the end that must follow it."""
        frame = self.expect("ERROR")
        if self.error_ends:
            self.ended()
        else:
            frame.headers.setdefault("receipt-id", ANY)  # and it names no frame
        return frame

    def ended(self):
        deadline = time.monotonic() + self.timeout_s
        try:
            while True:
                self._fill(deadline)
        except (Closed, ConnectionError):
            return

    def idle(self, seconds=0.15):
        """Nothing comes for a while."""
        try:
            frame = self.next(seconds)
        except TimeoutError:
            return
        raise AssertionError(f"unexpected {frame}")
