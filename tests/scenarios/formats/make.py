"""Makes the fixtures of this folder anew, with the program as built: python3 tests/scenarios/formats/make.py

To be run when the format changes, never to make a test green: a store that an earlier program wrote is read, or refused. The
present format is a whole small store, as are those before it that are still read, which this does not touch; one more to each side is the
head of a segment with that version."""
import struct
import sys
import tarfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "lib"))

import pika  # noqa: E402
from mqtest.broker import Gateway  # noqa: E402

OLDEST, VERSION = 1, 2


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def fill(gateway):
    with pika.BlockingConnection(pika.URLParameters(gateway.url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_declare("kept", durable=True)
        channel.queue_declare("log", durable=True, arguments={"x-queue-type": "stream"})
        for i in range(20):
            for queue in ("kept", "log"):
                channel.basic_publish("", queue, b"%s %d" % (queue.encode(), i), pika.BasicProperties(delivery_mode=2))
        for _ in range(5):
            channel.basic_get("kept", auto_ack=True)


def main():
    with Gateway(settings={"listeners.http": "off", "store.journal.segment_size": "1MiB"}) as gateway:
        fill(gateway)
        assert gateway.stop() == 0
        folder = gateway.folder / "journal"
        with tarfile.open(HERE / f"format-{VERSION}.tar.gz", "w:gz") as tar:
            tar.add(folder, "journal")
        head = bytearray(sorted(folder.glob("*.seg"))[0].read_bytes()[:4096])
        for version in (OLDEST - 1, VERSION + 1):
            struct.pack_into("<H", head, 8, version)
            struct.pack_into("<I", head, 508, crc32c(head[:508]))
            (HERE / f"format-{version}.seg").write_bytes(head)


if __name__ == "__main__":
    main()
