#!/usr/bin/python3
"""Checks the checks of kafkaload: a small server does one thing wrong, and the generator must say so.

usage: kafkaload_test.py PATH_OF_KAFKALOAD"""

import json
import socket
import struct
import subprocess
import sys
import threading

PRODUCE, FETCH = 0, 1
FAULTS = {  # name: what kafkaload must report, and whether all is well
    "none": ({"misordered": 0, "corrupt": 0}, True),
    "swap": ({"misordered": 2}, False),
    "double": ({"misordered": any}, False),
    "flip": ({"corrupt": 1}, False),
    "sum": ({"corrupt": 1}, False),
    "offset": ({"misordered": 1}, False),
    "refuse": ({"error": "a batch was refused (7)"}, False),
    "drop": ({"error": "nothing moves"}, False),
}
VICTIM, PARTITIONS = 3, 2


class Text:
    """A request, read from its front."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def get(self, form):
        values = struct.unpack_from(">" + form, self.data, self.at)
        self.at += struct.calcsize(">" + form)
        return values[0] if len(values) == 1 else values

    def bytes(self, size):
        self.at += size
        return self.data[self.at - size:self.at]

    def text(self):
        return self.bytes(max(0, self.get("h")))


class Server:
    """One topic in memory; fetches wait for records; the fault is at partition 0's batch VICTIM."""

    def __init__(self, fault):
        self.fault = fault
        self.stored = [[] for _ in range(PARTITIONS)]
        self.taken = [0] * PARTITIONS
        self.some = threading.Condition()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        stream, wanted = connection.makefile("rb"), {}
        try:
            while size := stream.read(4):
                request = Text(stream.read(struct.unpack(">i", size)[0]))
                key, _, serial = request.get("hhi")
                request.text()
                answer = {PRODUCE: self._produce, FETCH: lambda r: self._fetch(r, wanted)}.get(key, self._admin)(request)
                connection.sendall(struct.pack(">ii", len(answer) + 4, serial) + answer)
        except OSError:
            pass

    @staticmethod
    def _admin(_):
        return struct.pack(">ii", 0, 1) + b"\0\1t" + bytes(2)

    def _produce(self, request):
        request.get("hhii")
        request.text()
        out = b""
        count = request.get("i")
        for _ in range(count):
            index, size = request.get("ii")
            out += self._append(index, request.bytes(size))
        return struct.pack(">i", 1) + b"\0\1t" + struct.pack(">i", count) + out + bytes(4)

    def _append(self, index, batch):
        number = self.taken[index]
        self.taken[index] += 1
        is_victim = index == 0 and number == VICTIM
        code = 7 if is_victim and self.fault == "refuse" else 0
        offset = number * struct.unpack_from(">i", batch, 57)[0] + (is_victim and self.fault == "offset")
        with self.some:
            self.stored[index] += self._spoil(index, number, batch)
            self.some.notify_all()
        return struct.pack(">ihqqq", index, code, offset, -1, 0)

    def _spoil(self, index, number, batch):
        """What this batch makes the server store."""
        if index == 0 and self.fault == "swap" and number in (VICTIM, VICTIM + 1):
            self.held = batch if number == VICTIM else self.held
            return [] if number == VICTIM else [batch, self.held]
        if index != 0 or number != VICTIM:
            return [batch]
        flipped = batch[:-9] + bytes([batch[-9] ^ 1]) + batch[-8:]
        summed = batch[:17] + bytes([batch[17] ^ 1]) + batch[18:]
        return {"double": [batch, batch], "drop": [], "flip": [flipped], "sum": [summed]}.get(self.fault, [batch])

    def _fetch(self, request, wanted):
        _, wait_ms, _, _, _, _, epoch, topics = request.get("iiiibiii")
        for _ in range(topics):
            request.text()
            for _ in range(request.get("i")):
                index, _, offset, _, _ = request.get("iiqqi")
                wanted[index] = offset
        with self.some:
            self.some.wait_for(lambda: any(self._behind(i, at) for i, at in wanted.items()), wait_ms / 1000)
            rows = [self._row(i, at) for i, at in wanted.items()]
        return struct.pack(">ihiii", 0, 0, 1 if epoch >= 0 else 0, 1, 1)[:-4] + b"\0\1t" + \
            struct.pack(">i", len(rows)) + b"".join(rows)

    def _behind(self, index, offset):
        batches = self.stored[index]
        return batches[offset // struct.unpack_from(">i", batches[0], 57)[0]:] if batches else []

    def _row(self, index, offset):
        records = b"".join(struct.pack(">q", offset + i * struct.unpack_from(">i", b, 57)[0]) + b[8:]
                           for i, b in enumerate(self._behind(index, offset)[:8]))
        return struct.pack(">ihqqqiii", index, 0, 0, 0, 0, -1, -1, len(records)) + records


def check(binary, fault):
    server = Server(fault)
    command = [binary, "--port", str(server.port), "--partitions", str(PARTITIONS), "--producers", "2", "--size", "100",
               "--batch", "2000", "--seconds", "1.5", "--warmup", "0", "--sample", "1", "--stall",
               "1" if fault == "drop" else "20", "--delete"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    server.listener.close()
    answer = {}
    for line in ended.stdout.splitlines():
        answer.update(json.loads(line))
    wanted, is_well = FAULTS[fault]
    found = all(answer.get(key, 0) > 0 if value is any else
                value in answer.get(key, "") if isinstance(value, str) else answer.get(key) == value
                for key, value in wanted.items())
    good = found and (ended.returncode == 0) == is_well and answer.get("correct", False) == is_well
    print(f"{'ok' if good else 'FAILED'}: {fault}: {ended.stdout.strip()}")
    return good


if __name__ == "__main__":
    results = [check(sys.argv[1], fault) for fault in FAULTS]
    sys.exit(0 if all(results) else 1)
