"""A Kafka client of bytes: requests written by hand, answers read by hand, so that a test can be as rude as it likes.

Old, not flexible versions of the messages are used, whose form is plain: Produce 7, Fetch 11, ListOffsets 5, Metadata 5.
"""
import socket
import struct
import time

PRODUCE, FETCH, LIST_OFFSETS, METADATA, OFFSET_FOR_EPOCH, API_VERSIONS = 0, 1, 2, 3, 23, 18
DEADLINE_S = 30


def _crc_table():
    table = []
    for i in range(256):
        for _ in range(8):
            i = (i >> 1) ^ (0x82F63B78 if i & 1 else 0)
        table.append(i)
    return table


_TABLE = _crc_table()


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def varint(value: int) -> bytes:
    value = (value << 1) ^ (value >> 63)
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out + bytes([value]))


def record(delta: int, value: bytes, key: bytes = None, headers=(), time_delta: int = 0) -> bytes:
    body = b"\0" + varint(time_delta) + varint(delta)
    for part in (key, value):
        body += varint(-1) if part is None else varint(len(part)) + part
    body += varint(len(headers))
    for name, text in headers:
        body += varint(len(name)) + name + varint(len(text)) + text
    return varint(len(body)) + body


def batch(values, base_time: int = None, attributes: int = 0, count: int = None, last_delta: int = None,
          producer=(-1, -1, -1), magic: int = 2, crc: int = None, records: bytes = None) -> bytes:
    """One record batch v2 of the values (bytes, or made records)."""
    now = base_time if base_time is not None else int(time.time() * 1000)
    if records is None:
        records = b"".join(record(i, v) for i, v in enumerate(values))
    n = len(values)
    tail = struct.pack(">hiqqqhii", attributes, n - 1 if last_delta is None else last_delta, now, now, *producer,
                       n if count is None else count) + records
    head = struct.pack(">ibI", -1, magic, crc32c(tail) if crc is None else crc)
    return struct.pack(">qi", 0, len(head) + len(tail)) + head + tail


def batches(data: bytes):
    """(base offset, leader epoch, count, records) of each whole batch."""
    at = 0
    while at + 12 <= len(data):
        base, length = struct.unpack_from(">qi", data, at)
        if at + 12 + length > len(data):
            break
        epoch, = struct.unpack_from(">i", data, at + 12)
        count, = struct.unpack_from(">i", data, at + 57)
        yield base, epoch, count, data[at + 61:at + 12 + length]
        at += 12 + length


def text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack(">h", len(raw)) + raw


class Reader:
    def __init__(self, data: bytes):
        self.data, self.at = data, 0

    def get(self, form: str):
        values = struct.unpack_from(">" + form, self.data, self.at)
        self.at += struct.calcsize(">" + form)
        return values[0] if len(values) == 1 else values

    def bytes(self, n: int) -> bytes:
        self.at += n
        return self.data[self.at - n:self.at]

    def text(self):
        n = self.get("h")
        return None if n < 0 else self.bytes(n).decode()

    def array(self, one):
        n = self.get("i")
        return None if n < 0 else [one(self) for _ in range(n)]

    def end(self):
        assert self.at == len(self.data), f"{len(self.data) - self.at} bytes left over"


class Kafka:
    """One connection."""

    def __init__(self, port: int):
        self.socket = socket.create_connection(("127.0.0.1", port), DEADLINE_S)
        self.socket.settimeout(DEADLINE_S)
        self.serial = 100

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # -- frames ---------------------------------------------------------------------------------
    def frame(self, key: int, version: int, body: bytes, client: str = "raw") -> bytes:
        self.serial += 1
        head = struct.pack(">hhi", key, version, self.serial) + text(client)
        return struct.pack(">i", len(head) + len(body)) + head + body

    def send(self, key: int, version: int, body: bytes) -> int:
        """Sends a request, answers its correlation id."""
        self.socket.sendall(self.frame(key, version, body))
        return self.serial

    def _exactly(self, n: int) -> bytes:
        got = bytearray()
        while len(got) < n:
            piece = self.socket.recv(n - len(got))
            if not piece:
                raise EOFError(f"closed after {len(got)} of {n} bytes")
            got += piece
        return bytes(got)

    def answer(self, serial: int = None) -> Reader:
        n, = struct.unpack(">i", self._exactly(4))
        reader = Reader(self._exactly(n))
        got = reader.get("i")
        assert serial is None or got == serial, (got, serial)
        return reader

    def ask(self, key: int, version: int, body: bytes) -> Reader:
        return self.answer(self.send(key, version, body))

    def is_closed(self) -> bool:
        """Waits for the other side to close."""
        try:
            while self.socket.recv(65536):
                pass
        except ConnectionResetError:
            pass
        return True

    # -- requests -------------------------------------------------------------------------------
    def api_versions(self):
        r = self.ask(API_VERSIONS, 0, b"")
        assert r.get("h") == 0
        rows = r.array(lambda x: x.get("hhh"))
        r.end()
        return {key: (first, last) for key, first, last in rows}

    def metadata(self, topics=None, create: bool = True):
        """cluster id, {topic: (error, partitions)}, brokers"""
        body = struct.pack(">i", -1) if topics is None else struct.pack(">i", len(topics)) + b"".join(map(text, topics))
        r = self.ask(METADATA, 5, body + struct.pack(">b", create))
        r.get("i")
        brokers = r.array(lambda x: (x.get("i"), x.text(), x.get("i"), x.text()))
        cluster, _ = r.text(), r.get("i")

        def partition(x):
            error, index, leader = x.get("hii")
            return error, index, leader, [x.array(lambda y: y.get("i")) for _ in range(3)]

        def topic(x):
            error, name, _ = x.get("h"), x.text(), x.get("b")
            return name, (error, len(x.array(partition)))
        topics = dict(r.array(topic))
        r.end()
        return cluster, topics, brokers

    @staticmethod
    def produce_body(topic: str, records: bytes, partition: int = 0, acks: int = -1) -> bytes:
        return (struct.pack(">hhi", -1, acks, 30000) + struct.pack(">i", 1) + text(topic) +
                struct.pack(">iii", 1, partition, len(records)) + records)

    @staticmethod
    def produce_answer(r: Reader):
        """(error, base offset) of the only partition"""
        assert r.get("i") == 1
        r.text()
        assert r.get("i") == 1
        _, error, base, _, start = r.get("ihqqq")
        r.get("i")
        r.end()
        return error, base

    def produce(self, topic: str, records: bytes, partition: int = 0, acks: int = -1):
        return self.produce_answer(self.ask(PRODUCE, 7, self.produce_body(topic, records, partition, acks)))

    @staticmethod
    def fetch_body(parts, wait_ms=0, min_bytes=1, max_bytes=1 << 26, session=(0, -1), forget=(), part_bytes=1 << 20,
                   isolation=0) -> bytes:
        """parts: (topic, partition, offset)"""
        body = struct.pack(">iiiibii", -1, wait_ms, min_bytes, max_bytes, isolation, *session)
        body += struct.pack(">i", len(parts))
        for topic, index, offset in parts:
            body += text(topic) + struct.pack(">iiiqqi", 1, index, -1, offset, -1, part_bytes)
        body += struct.pack(">i", len(forget))
        for topic, index in forget:
            body += text(topic) + struct.pack(">ii", 1, index)
        return body + text("")

    @staticmethod
    def fetch_answer(r: Reader):
        """error, session, {(topic, partition): (error, high watermark, records)}"""
        _, error, session = r.get("ihi")
        out = {}

        def topic(x):
            name = x.text()

            def partition(y):
                index, code, high, stable, start = y.get("ihqqq")
                y.array(lambda z: z.get("qq"))
                y.get("i")
                n = y.get("i")
                out[name, index] = code, high, y.bytes(n) if n > 0 else b""
            x.array(partition)
        r.array(topic)
        r.end()
        return error, session, out

    def fetch(self, parts, **options):
        return self.fetch_answer(self.ask(FETCH, 11, self.fetch_body(parts, **options)))

    def read_all(self, topic: str, offset: int = 0, partition: int = 0, **options) -> bytes:
        """All batches from the offset to the high watermark; one fetch may bring a part of them."""
        out = b""
        while True:
            error, _, got = self.fetch([(topic, partition, offset)], **options)
            code, high, data = got[topic, partition]
            assert error == code == 0, (error, code)
            out += data
            for base, _, count, _ in batches(data):
                offset = base + count
            if offset >= high:
                return out

    def list_offset(self, topic: str, when: int, partition: int = 0):
        """(error, time, offset)"""
        r = self.ask(LIST_OFFSETS, 5, struct.pack(">ibi", -1, 0, 1) + text(topic) +
                     struct.pack(">iiiq", 1, partition, -1, when))
        r.get("i")
        r.get("i")
        r.text()
        _, _, error, stamp, offset, _ = r.get("iihqqi")
        r.end()
        return error, stamp, offset

    def epoch_end(self, topic: str, epoch: int, partition: int = 0):
        """(error, epoch, end offset)"""
        r = self.ask(OFFSET_FOR_EPOCH, 3, struct.pack(">ii", -1, 1) + text(topic) +
                     struct.pack(">iiii", 1, partition, -1, epoch))
        r.get("i")
        r.get("i")
        r.text()
        _, error, _, epoch, end = r.get("ihiiq")
        r.end()
        return error, epoch, end
