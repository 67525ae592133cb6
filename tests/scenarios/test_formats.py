"""Stores that another version wrote: the present format is read whole, an older and a newer one are refused, untouched.

The fixtures are committed (formats/make.py made them): a change that can no longer read them is a change of the format."""
import shutil
import subprocess
import tarfile
from pathlib import Path

import pika
import pytest
from mqtest.broker import BrokerError, Gateway, build_dir

FORMATS = Path(__file__).resolve().parent / "formats"
PRESENT = 1


def gateway_on(folder):
    return Gateway(settings={"listeners.http": "off", "store.journal.path": str(folder),
                             "store.journal.segment_size": "1MiB"})


def store_check(folder):
    done = subprocess.run([str(build_dir() / "mqgatectl"), "store", "check", str(folder)], text=True,
                          capture_output=True, timeout=60)
    return done.returncode, done.stderr


def test_present_format_is_read(tmp_path):
    with tarfile.open(FORMATS / f"format-{PRESENT}.tar.gz") as tar:
        tar.extractall(tmp_path, filter="data") if hasattr(tarfile, "data_filter") else tar.extractall(tmp_path)
    assert store_check(tmp_path / "journal") == (0, "")
    with gateway_on(tmp_path / "journal") as gateway:
        with pika.BlockingConnection(pika.URLParameters(gateway.url)) as connection:
            channel = connection.channel()
            for i in range(5, 20):
                assert channel.basic_get("kept", auto_ack=True)[2] == b"kept %d" % i
            assert channel.basic_get("kept")[0] is None
            channel.basic_qos(prefetch_count=50)
            entries = channel.consume("log", arguments={"x-stream-offset": "first"}, inactivity_timeout=30)
            for i in range(20):
                method, _, body = next(entries)
                assert body == b"log %d" % i
                channel.basic_ack(method.delivery_tag)


@pytest.mark.parametrize("version, advice", [(PRESENT - 1, "run the older program that wrote it, and drain it"),
                                             (PRESENT + 1, "run the newer program that wrote it")])
def test_other_formats_are_refused(tmp_path, version, advice):
    folder = tmp_path / "journal"
    folder.mkdir()
    segment = Path(shutil.copy(FORMATS / f"format-{version}.seg", folder / "00000001.seg"))
    before = segment.read_bytes()
    says = f"the journal has format version {version}, features 0; this program reads version {PRESENT}: {advice}"
    assert store_check(folder) == (2, f"mqgatectl: {says}\n")
    gateway = gateway_on(folder)
    try:
        with pytest.raises(BrokerError):
            gateway.start()
        assert gateway.proc.returncode not in (0, None) and says in gateway.log_text()
    finally:
        gateway.proc = None
        gateway.close()
    assert segment.read_bytes() == before
