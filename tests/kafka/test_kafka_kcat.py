"""kcat (librdkafka): metadata, producing and consuming with keys, headers, codecs, over TLS."""
import shutil
import subprocess

import pytest

from mqtest.certs import Authority

LIMIT_S = 60


@pytest.fixture
def kcat(port):
    assert shutil.which("kcat"), "kcat is in the file packages"

    def run(*words, data: bytes = b"", to=None, options=()):
        command = ["kcat", "-b", f"127.0.0.1:{to or port}", *[f"-X{option}" for option in options], *words]
        done = subprocess.run(command, input=data, capture_output=True, timeout=LIMIT_S)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()
    return run


def test_metadata(kcat, port, unique):
    name = unique("t")
    assert f'topic "{name}" with 1 partitions' in kcat("-L", "-t", name)
    assert f"broker 1 at 127.0.0.1:{port}" in kcat("-L") and name in kcat("-L")


def test_keys_and_headers(kcat, unique):
    name = unique("t")
    kcat("-P", "-t", name, "-K:", "-H", "kind=test", data=b"a:1\nb:2\na:3\n")
    got = kcat("-C", "-t", name, "-e", "-q", "-o", "beginning", "-f", "%o %k=%s %h\n")
    assert got.splitlines() == ["0 a=1 kind=test", "1 b=2 kind=test", "2 a=3 kind=test"]
    assert kcat("-C", "-t", name, "-e", "-q", "-o", "-1") == "3\n"
    assert kcat("-C", "-t", name, "-e", "-q", "-o", "1", "-c", "1") == "2\n"


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_codecs(kcat, unique, codec):
    name = unique("t")
    lines = "".join(f"line {i} of a text that repeats itself\n" for i in range(500))
    kcat("-P", "-t", name, "-z", codec, data=lines.encode())
    assert kcat("-C", "-t", name, "-e", "-q", "-o", "beginning") == lines


@pytest.mark.parametrize("acks", ["0", "1", "all"])
def test_acks_and_large_records(kcat, unique, acks):
    name = unique("t")
    kcat("-L", "-t", name)
    kcat("-P", "-t", name, data=("x" * 900000).encode(), options=[f"acks={acks}"])
    assert kcat("-C", "-t", name, "-c", "1", "-q", "-o", "beginning", options=["check.crcs=true"]) == \
        "x" * 900000 + "\n"


def test_tls(kcat, own_gateway):
    authority = Authority()
    cert, key = authority.issue("localhost")
    gateway = own_gateway(listeners__kafkas="127.0.0.1:0", tls__cert=str(cert), tls__key=str(key))
    options = ["security.protocol=ssl", f"ssl.ca.location={authority.cert}"]
    there = dict(to=gateway.ports["kafkas"], options=options)
    assert f"broker 1 at 127.0.0.1:{gateway.ports['kafkas']}" in kcat("-L", "-t", "t", **there)
    kcat("-P", "-t", "t", data=b"secret\n" * 20000, **there)
    assert kcat("-C", "-t", "t", "-e", "-q", "-o", "beginning", **there) == "secret\n" * 20000
