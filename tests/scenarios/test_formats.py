"""Stores that another version wrote: the present format and the one before are read whole, and are of the present one then; a newer one
and one before all that is read are refused, untouched.

The fixtures are committed (formats/make.py made them): a change that can no longer read them is a change of the format."""
import shutil
import struct
import subprocess
import tarfile
from pathlib import Path

import pika
import pytest
from mqtest.broker import BrokerError, Gateway, build_dir

FORMATS = Path(__file__).resolve().parent / "formats"
OLDEST, PRESENT = 1, 2


def gateway_on(folder):
    return Gateway(settings={"listeners.http": "off", "store.journal.path": str(folder),
                             "store.journal.segment_size": "1MiB"})


def store_check(folder):
    done = subprocess.run([str(build_dir() / "mqgatectl"), "store", "check", str(folder)], text=True,
                          capture_output=True, timeout=60)
    return done.returncode, done.stderr


def versions(folder):
    return [struct.unpack_from("<H", path.read_bytes(), 8)[0] for path in sorted(folder.glob("*.seg"))]


@pytest.mark.parametrize("version", range(OLDEST, PRESENT + 1))
def test_known_formats_are_read(tmp_path, version):
    with tarfile.open(FORMATS / f"format-{version}.tar.gz") as tar:
        tar.extractall(tmp_path, filter="data") if hasattr(tarfile, "data_filter") else tar.extractall(tmp_path)
    assert store_check(tmp_path / "journal") == (0, "")
    assert set(versions(tmp_path / "journal")) == {version}  # looking changes nothing
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
        assert PRESENT in versions(tmp_path / "journal")
        assert gateway.stop() == 0
    assert store_check(tmp_path / "journal") == (0, "")


@pytest.mark.parametrize("version, advice", [(OLDEST - 1, "run the older program that wrote it, and drain it"),
                                             (PRESENT + 1, "run the newer program that wrote it")])
def test_other_formats_are_refused(tmp_path, version, advice):
    folder = tmp_path / "journal"
    folder.mkdir()
    segment = Path(shutil.copy(FORMATS / f"format-{version}.seg", folder / "00000001.seg"))
    before = segment.read_bytes()
    says = f"the journal has format version {version}, features 0; this program reads versions {OLDEST} to {PRESENT}: {advice}"
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
