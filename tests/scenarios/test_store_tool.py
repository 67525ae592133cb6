"""mqgatectl store check|dump|stats: on good, damaged, truncated, newer and used folders; it never writes."""
import hashlib
import json
import os
import shutil
import struct
import subprocess
import time
from pathlib import Path

import pika
import pytest
from mqtest.broker import Gateway, build_dir

MESSAGES, TAKEN, STREAMED = 200, 40, 30


def store(*args):
    done = subprocess.run([str(build_dir() / "mqgatectl"), "store", *map(str, args)], text=True, capture_output=True,
                          timeout=60)
    return done.returncode, done.stdout, done.stderr


def rows(text, what):
    return [row for row in map(json.loads, text.splitlines()) if row["what"] == what]


def fill(gateway):
    with pika.BlockingConnection(pika.URLParameters(gateway.url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.exchange_declare("fan", "fanout", durable=True)
        for queue in ("left", "right"):
            channel.queue_declare(queue, durable=True)
            channel.queue_bind(queue, "fan")
        for i in range(MESSAGES):
            channel.basic_publish("fan", f"key.{i}", b"<body %d>" % i + bytes(500),
                                  pika.BasicProperties(delivery_mode=2))
        channel.queue_declare("log", durable=True, arguments={"x-queue-type": "stream"})
        for i in range(STREAMED):
            channel.basic_publish("", "log", b"<entry %d>" % i, pika.BasicProperties(delivery_mode=2))
        for _ in range(TAKEN):
            channel.basic_get("left", auto_ack=True)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A store that was closed properly."""
    folder = tmp_path_factory.mktemp("store") / "journal"
    with Gateway(settings={"listeners.http": "off", "store.journal.path": str(folder),
                           "store.journal.segment_size": "1MiB"}) as gateway:
        fill(gateway)
        used = store("check", folder)
        assert gateway.stop() == 0
    assert used[0] == 2 and "is in use by process" in used[2]
    return folder


@pytest.fixture
def folder(stopped, tmp_path):
    """A copy that may be damaged."""
    return Path(shutil.copytree(stopped, tmp_path / "journal"))


def first_segment(folder):
    return sorted(folder.glob("*.seg"))[0]


def change(path, at, data):
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(data)


def flip(path, at):
    with open(path, "r+b") as file:
        file.seek(at)
        old = file.read(1)[0]
        file.seek(at)
        file.write(bytes([old ^ 0x10]))


def crc32c(data, before=0):
    crc = before ^ 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def digest(folder):
    return {path.name: (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
            for path in folder.rglob("*") if path.is_file()}


def test_good(folder):
    before = digest(folder)
    code, out, err = store("check", folder, "--json")
    assert (code, err) == (0, "")
    [summary] = rows(out, "store")
    assert summary["messages"] == 2 * MESSAGES - TAKEN and summary["queues"] == 2
    assert (summary["clean"], summary["verdict"]) == ("yes", "good")
    assert rows(out, "segment")[0]["records"] > MESSAGES
    [partition] = rows(out, "partition")
    assert partition["high_watermark"] == STREAMED and partition["bytes"] > 61 and "why" not in partition
    [file] = rows(out, "partition_file")
    assert file["records"] == STREAMED and file["index"] == "good" and "damaged" not in file
    assert partition["stream"] == "//log" and partition["records"] == STREAMED
    assert partition["disk_bytes"] == partition_file(folder, "log").stat().st_size
    assert not rows(out, "file") or all("spare" in row["is"] for row in rows(out, "file"))
    for verb in ("dump", "stats"):
        assert store(verb, folder)[0] == 0
    assert digest(folder) == before


def partition_file(folder, kind):
    [path] = (folder / "streams").rglob(f"*.{kind}")
    return path


def folder_bytes(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.name != "lock")


def test_stats(folder):
    code, out, _ = store("stats", folder, "--json")
    assert code == 0
    [summary] = rows(out, "store")
    assert summary["disk_bytes"] == folder_bytes(folder)
    assert summary["partition_bytes"] == sum(partition_file(folder, kind).stat().st_size for kind in ("log", "idx"))
    counts = {row["queue"]: row["messages"] for row in rows(out, "queue")}
    assert counts == {"//left": MESSAGES - TAKEN, "//right": MESSAGES}


def test_dump(folder):
    code, out, _ = store("dump", folder, "--json", "--type", "msg", "--queue", "//left", "--limit", 7, "--bodies")
    records = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and len(records) == 7
    assert records[3]["key"] == "key.3" and records[3]["body"].startswith("<body 3>\0")
    assert records[3]["to"].count(":") == 2 and records[3]["body_bytes"] == len("<body 3>") + 500
    assert "body" not in json.loads(store("dump", folder, "--json", "--type", "msg")[1].splitlines()[0])
    settles = store("dump", folder, "--type", "settle", "--queue", "//right")[1]
    assert settles == ""
    assert "what=settle" in store("dump", folder, "--type", "settle")[1]
    metas = store("dump", folder, "--type", "meta", "--bodies", "--limit", "100")[1]
    assert "key=q/%2F/left" in metas
    assert not [line for line in metas.splitlines() if "key=user/" in line and "value=" in line]  # holds a password


def place_of(folder, record):
    """Where the n-th message record stands: (file, byte)."""
    out = store("dump", folder, "--json", "--type", "msg", "--limit", "1000")[1]
    row = json.loads(out.splitlines()[record])
    return folder / row["file"], row["at"]


def test_damaged(folder):
    path, at = place_of(folder, 50)
    flip(path, at + 300)
    before = digest(folder)
    code, out, err = store("check", folder, "--json")
    assert code == 1 and f"{path.name} is damaged" in err
    [damage] = rows(out, "damage")
    assert damage["file"] == path.name and damage["from"] <= at < damage["to"]
    [summary] = rows(out, "store")
    assert "can be saved" in summary["verdict"] and summary["messages"] >= 2 * MESSAGES - TAKEN - 2
    assert store("dump", folder, "--limit", "1000")[0] == 1
    assert digest(folder) == before


def check_damaged_partition(folder):
    before = digest(folder)
    code, out, _ = store("check", folder, "--json")
    assert code == 1 and "can be saved" in rows(out, "store")[0]["verdict"]
    assert digest(folder) == before
    return out


def batches(folder):
    """(byte, bytes, first offset) of each batch of the partition's file."""
    out = store("dump", folder, "--json", "--type", "batch", "--queue", "//log", "--limit", 1000)[1]
    return [(row["at"], row["bytes"], row["base_offset"]) for row in map(json.loads, out.splitlines())
            if row["file"].startswith("streams/")]


def test_partition_damaged(folder):
    whole = len(batches(folder))
    at, size, first = batches(folder)[3]
    flip(partition_file(folder, "log"), at + size - 1)
    out = check_damaged_partition(folder)
    [damage] = rows(out, "damage")
    assert damage["file"].endswith(".log") and (damage["from"], damage["to"]) == (at, at + size)
    [file] = rows(out, "partition_file")
    assert file["damaged"] == 1 and file["batches"] == whole - 1
    [partition] = rows(out, "partition")
    assert partition["damaged_at"] == first and partition["why"]


def test_partition_offset_damaged(folder):
    """A base offset stands under no checksum: its neighbours say what it must be."""
    at, _, _ = batches(folder)[3]
    flip(partition_file(folder, "log"), at + 6)
    assert rows(check_damaged_partition(folder), "damage")[0]["from"] == at


def test_partition_cut(folder):
    """The journal still has what is missing at the end: a start would write it again."""
    path = partition_file(folder, "log")
    os.truncate(path, path.stat().st_size - 10)
    code, out, _ = store("check", folder, "--json")
    [file] = rows(out, "partition_file")
    [partition] = rows(out, "partition")
    assert code == 0 and file["torn"] == "yes" and file["records"] < STREAMED
    assert partition["high_watermark"] == STREAMED and "why" not in partition


def test_partition_index_damaged(folder):
    """No loss: the log is read again."""
    flip(partition_file(folder, "idx"), 64 + 3)
    code, out, _ = store("check", folder, "--json")
    assert code == 0 and rows(out, "partition_file")[0]["index"] == "damaged"
    assert rows(out, "store")[0]["verdict"] == "good; what is derived and does not check is made again"


def test_partition_index_wrong(folder):
    """A row that checks and names what is not there would mislead readers."""
    path = partition_file(folder, "idx")
    data = bytearray(path.read_bytes())
    data[64:72] = struct.pack("<Q", 1)
    seed = struct.unpack_from("<I", data, 60)[0]
    data[92:96] = struct.pack("<I", crc32c(bytes(data[64:92]), seed))
    path.write_bytes(data)
    damage = rows(check_damaged_partition(folder), "damage")[0]
    assert damage["file"].endswith(".idx") and damage["from"] == 64


def test_other_files(folder):
    stored = b"%032d" % 7
    head = struct.pack("<IBBHI", 77, 1, 0, 0, len(stored))
    record = struct.pack("<I", crc32c(stored, crc32c(head, 77))) + head + stored
    (folder / "scratch").write_bytes(2 * record + b"torn")
    (folder / "quarantine-x").write_bytes(b"old")
    (folder / "notes.txt").write_bytes(b"mine")
    partition_file(folder, "log").with_suffix(".log.tmp").write_bytes(b"half")
    (folder / "00000009-0000000000000001.idx").write_bytes(b"x")
    code, out, _ = store("check", folder, "--json")
    files = {row["file"].rpartition("/")[2]: row for row in rows(out, "file")}
    assert code == 0
    assert files["scratch"]["is"].startswith("scratch: transient") and files["scratch"]["messages"] == 2
    assert files["scratch"]["checked_bytes"] == 2 * len(record)
    assert "copy of a damaged file" in files["quarantine-x"]["is"]
    assert files["notes.txt"]["is"] == "not of the journal"
    assert "earlier use" in files["00000009-0000000000000001.idx"]["is"]
    assert "compaction" in next(row["is"] for name, row in files.items() if name.endswith(".tmp"))
    assert rows(out, "store")[0]["disk_bytes"] == folder_bytes(folder)


def test_digest_damaged(tmp_path):
    """Digests of closed segments are read whole: header, tables, pages."""
    folder = tmp_path / "journal"
    with Gateway(settings={"listeners.http": "off", "store.journal.path": str(folder),
                           "store.journal.segment_size": "1MiB"}) as gateway:
        with pika.BlockingConnection(pika.URLParameters(gateway.url)) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            channel.queue_declare("q", durable=True)
            for _ in range(8):
                channel.basic_publish("", "q", bytes(300_000), pika.BasicProperties(delivery_mode=2))
        wait_for(lambda: len(list(folder.glob("*.idx"))) >= 2)
        assert gateway.stop() == 0
    assert {row["state"] for row in rows(store("check", folder, "--json")[1], "digest")} == {"good"}
    path = sorted(folder.glob("*.idx"))[0]
    flip(path, path.stat().st_size - 1)
    code, out, _ = store("check", folder, "--json")
    assert code == 0 and {row["file"]: row["state"] for row in rows(out, "digest")}[path.name] == "damaged"
    assert rows(out, "store")[0]["verdict"].startswith("good; what is derived")


def wait_for(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_truncated(folder):
    path, at = place_of(folder, 100)
    os.truncate(path, at)
    code, out, err = store("check", folder, "--json")
    assert code == 1 and err
    # What stood before the cut can be saved; whoever was confirmed behind it is told as damage, not as a torn tail.
    assert 180 <= rows(out, "store")[0]["messages"] <= 200 + 2


def test_header_damaged(folder):
    flip(first_segment(folder), 40)
    code, _, err = store("check", folder)
    assert code == 1 and "header does not check" in err


def test_newer_version(folder):
    path = first_segment(folder)
    head = bytearray(path.read_bytes()[:512])
    struct.pack_into("<H", head, 8, 99)
    struct.pack_into("<I", head, 508, crc32c(head[:508]))
    change(path, 0, head)
    for verb in ("check", "dump", "stats"):
        code, out, err = store(verb, folder)
        assert (code, out) == (2, "") and "format version 99" in err


def test_killed(tmp_path):
    folder = tmp_path / "journal"
    with Gateway(settings={"listeners.http": "off", "store.journal.path": str(folder)}) as gateway:
        fill(gateway)
        gateway.kill9()
    code, out, _ = store("check", folder, "--json")
    [summary] = rows(out, "store")
    assert code == 0 and summary["clean"] == "no"
    assert 2 * MESSAGES - TAKEN <= summary["messages"] <= 2 * MESSAGES


def test_not_looked_at(tmp_path):
    assert store("check", tmp_path)[0] == 2
    assert store("stats", tmp_path / "nowhere")[0] == 2
    assert "holds no journal" in store("check", tmp_path)[2]


def test_usage(tmp_path):
    assert store("repair", tmp_path)[0] == 64
    assert store("check")[0] == 64
