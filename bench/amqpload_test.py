#!/usr/bin/python3
"""Checks the checks of amqpload: a small relay does one thing wrong, and the generator must say so.

usage: amqpload_test.py PATH_OF_AMQPLOAD"""

import json
import socket
import struct
import subprocess
import sys
import threading

METHOD, HEADER, BODY, END = 1, 2, 3, b"\xce"
FAULTS = {  # name: what amqpload must report, and whether all is well
    "none": ({"misordered": 0, "corrupt": 0, "redelivered": 0, "nacked": 0}, True),
    "swap": ({"misordered": 3}, False),
    "double": ({"misordered": 1}, False),
    "flip": ({"corrupt": 1}, False),
    "redeliver": ({"redelivered": 1}, False),
    "refuse": ({"nacked": 1}, False),
    "drop": ({"error": "nothing happened"}, False),
}
COUNT, VICTIM = 200, 100


def frame(kind, channel, payload):
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + END


def method(channel, class_id, method_id, payload=b""):
    return frame(METHOD, channel, struct.pack(">HH", class_id, method_id) + payload)


def read_exactly(stream, size):
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data


class Relay:
    """One queue, one publisher, one consumer, confirms, one fault at message VICTIM."""

    def __init__(self, fault):
        self.fault = fault
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.consumer = None
        self.bodies = []
        self.delivered = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        stream = connection.makefile("rb")
        try:
            read_exactly(stream, 8)
            connection.sendall(method(0, 10, 10, b"\0\x09" + b"\0\0\0\0" + b"\0\0\0\x05PLAIN" + b"\0\0\0\x05en_US"))
            while True:
                kind, channel, size = struct.unpack(">BHI", read_exactly(stream, 7))
                payload = read_exactly(stream, size + 1)[:-1]
                self._on_frame(connection, kind, channel, payload)
        except (EOFError, OSError):
            connection.close()

    def _on_frame(self, connection, kind, channel, payload):
        if kind == BODY:
            self._on_body(connection, payload)
        if kind != METHOD:
            return
        answers = {(10, 11): method(0, 10, 30, struct.pack(">HIH", 2047, 131072, 0)),
                   (10, 40): method(0, 10, 41, b"\0"), (10, 50): method(0, 10, 51),
                   (20, 10): method(channel, 20, 11, b"\0\0\0\0"), (85, 10): method(channel, 85, 11),
                   (50, 40): method(channel, 50, 41, b"\0\0\0\0"),
                   (50, 10): method(channel, 50, 11, b"\x05bench" + bytes(8)), (60, 10): method(channel, 60, 11)}
        ids = struct.unpack(">HH", payload[:4])
        if ids == (60, 20):
            self.consumer = connection
        if ids in answers:
            connection.sendall(answers[ids])

    def _on_body(self, publisher, body):
        self.bodies.append(body)
        number = len(self.bodies)
        refused = self.fault == "refuse" and number == VICTIM
        publisher.sendall(method(1, 60, 120 if refused else 80, struct.pack(">QB", number, 0)))
        for late in self._spoil(number, body):
            self._deliver(late, number)

    def _spoil(self, number, body):
        """The bodies that this message makes the relay deliver."""
        if self.fault == "swap" and number in (VICTIM, VICTIM + 1):
            return [] if number == VICTIM else [body, self.bodies[-2]]
        if number != VICTIM:
            return [body]
        if self.fault == "flip":
            return [body[:-1] + bytes([body[-1] ^ 1])]
        return {"double": [body, body], "drop": []}.get(self.fault, [body])

    def _deliver(self, body, number):
        self.delivered += 1
        redelivered = self.fault == "redeliver" and number == VICTIM
        head = b"\x040000" + struct.pack(">QB", self.delivered, redelivered) + b"\0" + b"\x05bench"
        properties = struct.pack(">HHQHB", 60, 0, len(body), 0x1000, 1)
        self.consumer.sendall(method(1, 60, 60, head) + frame(HEADER, 1, properties) + frame(BODY, 1, body))


def check(binary, fault):
    relay = Relay(fault)
    command = [binary, "--port", str(relay.port), "--count", str(COUNT), "--confirm", "10", "--sample", "1",
               "--stall", "1" if fault == "drop" else "20"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    relay.listener.close()
    answer = json.loads(ended.stdout)
    wanted, is_well = FAULTS[fault]
    found = all(value in answer.get(key, "") if isinstance(value, str) else answer.get(key) == value
                for key, value in wanted.items())
    good = found and (ended.returncode == 0) == is_well and answer.get("correct", False) == is_well
    print(f"{'ok' if good else 'FAILED'}: {fault}: {ended.stdout.strip()}")
    return good


if __name__ == "__main__":
    results = [check(sys.argv[1], fault) for fault in FAULTS]
    sys.exit(0 if all(results) else 1)
