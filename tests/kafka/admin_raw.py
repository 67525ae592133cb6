"""Requests that the Python clients of Debian do not have, as bytes: DeleteRecords, IncrementalAlterConfigs, DescribeLogDirs,
AlterClientQuotas, and a Produce that shows its throttle time. Versions before flexible ones, so plain big-endian structs."""
import socket
import struct

DELETE_RECORDS, DESCRIBE_LOG_DIRS, INCREMENTAL_ALTER_CONFIGS = 21, 35, 44
DESCRIBE_CLIENT_QUOTAS, ALTER_CLIENT_QUOTAS = 48, 49
SASL_HANDSHAKE, SASL_AUTHENTICATE, METADATA, INIT_PRODUCER_ID = 17, 36, 3, 22
WAIT_S = 50


def string(text):
    return struct.pack(">h", -1) if text is None else struct.pack(">h", len(text.encode())) + text.encode()


def array(items):
    return struct.pack(">i", len(items)) + b"".join(items)


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, fmt):
        values = struct.unpack_from(">" + fmt, self.data, self.at)
        self.at += struct.calcsize(">" + fmt)
        return values[0] if len(values) == 1 else values

    def string(self):
        n = self.take("h")
        return None if n < 0 else self.bytes(n).decode()

    def bytes(self, n):
        self.at += n
        return self.data[self.at - n:self.at]

    def array(self, one):
        return [one() for _ in range(self.take("i"))]

    def end(self):
        assert self.at == len(self.data)


class Admin:
    """One connection. call() gives a Reader of the answer's body."""

    def __init__(self, port, client_id="admin-raw"):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=WAIT_S)
        self.client_id, self.correlation = client_id, 0

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def frame(self, data):
        self.socket.sendall(struct.pack(">i", len(data)) + data)

    def answer(self):
        """The next frame; None at the end of the connection."""
        head = self._read(4)
        return head and self._read(struct.unpack(">i", head)[0])

    def _read(self, n):
        data = b""
        while len(data) < n:
            try:
                more = self.socket.recv(n - len(data))
            except ConnectionResetError:
                more = b""
            if not more:
                return None
            data += more
        return data

    def call(self, key, version, body):
        self.correlation += 1
        self.frame(struct.pack(">hhi", key, version, self.correlation) + string(self.client_id) + body)
        answer = self.answer()
        if answer is None:
            return None
        reader = Reader(answer)
        assert reader.take("i") == self.correlation
        return reader

    def login(self, user, password):
        assert self.call(SASL_HANDSHAKE, 1, string("PLAIN")).take("h") == 0
        token = f"\0{user}\0{password}".encode()
        assert self.call(SASL_AUTHENTICATE, 1, struct.pack(">i", len(token)) + token).take("h") == 0

    def producer_epoch(self, transactional_id):
        """Of a new producer of that id."""
        r = self.call(INIT_PRODUCER_ID, 1, string(transactional_id) + struct.pack(">i", 60000))
        _, error, _, epoch = r.take("ihqh")
        assert error == 0
        return epoch

    def delete_records(self, topic, offsets):
        """{partition: (low watermark, error)}"""
        body = array([string(topic) + array([struct.pack(">iq", p, o) for p, o in offsets.items()])])
        r = self.call(DELETE_RECORDS, 1, body + struct.pack(">i", 30000))
        r.take("i")
        (rows,) = r.array(lambda: (r.string(), r.array(lambda: r.take("iqh")))[1])
        r.end()
        return {partition: (low, error) for partition, low, error in rows}

    def alter(self, topic, *changes, validate_only=False):
        """changes: (name, operation, value); 0 set, 1 delete, 2 append, 3 subtract. (error, text)"""
        body = array([struct.pack(">b", 2) + string(topic) +
                      array([string(name) + struct.pack(">b", how) + string(value) for name, how, value in changes])])
        r = self.call(INCREMENTAL_ALTER_CONFIGS, 0, body + struct.pack(">?", validate_only))
        r.take("i")
        ((error, text),) = r.array(lambda: (r.take("h"), r.string(), r.take("b"), r.string())[:2])
        r.end()
        return error, text

    def log_dirs(self):
        """{(topic, partition): bytes}"""
        r = self.call(DESCRIBE_LOG_DIRS, 1, struct.pack(">i", -1))
        r.take("i")
        found = {}

        def topic():
            name = r.string()
            for row in r.array(lambda: r.take("iqqb")):
                found[name, row[0]] = row[1]

        errors = r.array(lambda: (r.take("h"), r.string(), r.array(topic))[0])
        r.end()
        assert set(errors) == {0}
        return found

    def set_quota(self, entity, validate_only=False, **values):
        """entity: {"user": name or None}; a value None removes. (error, text)"""
        ops = [string(key) + struct.pack(">d?", value or 0, value is None) for key, value in values.items()]
        body = array([array([string(kind) + string(name) for kind, name in entity.items()]) + array(ops)])
        r = self.call(ALTER_CLIENT_QUOTAS, 0, body + struct.pack(">?", validate_only))
        r.take("i")
        ((error, text),) = r.array(lambda: (r.take("h"), r.string(), r.array(lambda: (r.string(), r.string())))[:2])
        r.end()
        return error, text

    def quotas(self, *components, strict=False):
        """components: (entity type, match type, match). [({type: name}, {key: value})]"""
        body = array([string(kind) + struct.pack(">b", how) + string(match) for kind, how, match in components])
        r = self.call(DESCRIBE_CLIENT_QUOTAS, 0, body + struct.pack(">?", strict))
        r.take("i")
        error, text = r.take("h"), r.string()
        assert error == 0, text
        found = r.array(lambda: (dict(r.array(lambda: (r.string(), r.string()))),
                                 dict(r.array(lambda: (r.string(), r.take("d"))))))
        r.end()
        return found
