"""Where the peers' suites come from: Debian's source packages, pinned, unpacked under ~/.cache/mqgate/peers.

A package list of our own with deb-src (the machine's is left alone) is fetched once. Where the archive does not
hold a source, the same upstream release is taken from PyPI if it is there; else the suite is skipped by name.
MQGATE_PEER_<NAME>=folder takes a suite from a folder, for instance MQGATE_PEER_BUNNY=~/src/bunny-2.19.0.
"""
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from mqtest.cache import CACHE, REACH_S, reachable

PEERS = CACHE / "peers"
ARCHIVE = os.environ.get("MQGATE_DEBIAN", "http://deb.debian.org/debian")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
FETCH_S = 180


class Unreachable(Exception):
    """The source cannot be had here; the text says why."""


def source_of(name: str, package: str, version: str, pypi: str = "") -> Path:
    """The folder of an unpacked source."""
    given = os.environ.get(f"MQGATE_PEER_{name.upper().replace('-', '_')}")
    if given:
        if not Path(given).is_dir():
            raise Unreachable(f"MQGATE_PEER_{name.upper()}={given} is no folder")
        return Path(given)
    folder = PEERS / f"{package}_{version}"
    if folder.exists():
        return folder
    PEERS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=PEERS) as fresh:
        try:
            found = from_debian(Path(fresh), package, version)
        except Unreachable as why:
            if not pypi:
                raise
            found = from_pypi(Path(fresh), pypi, why)
        shutil.move(str(found), folder)
    return folder


def run(command, **kw):
    done = subprocess.run([str(part) for part in command], text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=FETCH_S, **kw)
    if done.returncode != 0:
        lines = [line for line in done.stdout.splitlines() if line.startswith(("E:", "ERROR"))] or [done.stdout[-200:]]
        raise Unreachable(f"{Path(str(command[0])).name}: {lines[0]}")
    return done.stdout


def apt_options():
    """Options for an apt state of our own: no root, no change to the machine's lists."""
    state = PEERS / "apt"
    for part in ("lists/partial", "cache/archives/partial"):
        (state / part).mkdir(parents=True, exist_ok=True)
    (state / "sources.list").write_text(f"deb-src [signed-by={KEYRING}] {ARCHIVE} bookworm main\n")
    values = {"Dir::Etc::SourceList": state / "sources.list", "Dir::Etc::SourceParts": "/dev/null",
              "Dir::State::lists": state / "lists", "Dir::Cache": state / "cache",
              "Acquire::http::Timeout": REACH_S, "Acquire::Retries": 0, "Debug::NoLocking": "true",
              "APT::Sandbox::User": "root"}
    return [word for key, value in values.items() for word in ("-o", f"{key}={value}")]


def from_debian(fresh: Path, package: str, version: str) -> Path:
    if not shutil.which("dpkg-source"):
        raise Unreachable("dpkg-source is missing (package dpkg-dev)")
    if not reachable(ARCHIVE + "/dists/bookworm/Release"):
        raise Unreachable(f"{ARCHIVE} cannot be reached within {REACH_S} s")
    options = apt_options()
    if not any((PEERS / "apt" / "lists").glob("*Sources*")):
        run(["apt-get", *options, "update"])
    run(["apt-get", *options, "source", "--download-only", f"{package}={version}"], cwd=fresh)
    dsc = next(fresh.glob("*.dsc"))
    run(["dpkg-source", "--no-check", "-x", dsc, fresh / "unpacked"], cwd=fresh)
    return fresh / "unpacked"


def from_pypi(fresh: Path, requirement: str, why) -> Path:
    """The upstream release that Debian's package is made from."""
    try:
        run([sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:", "--no-build-isolation",
             "-q", "-d", fresh, requirement])
    except (Unreachable, subprocess.TimeoutExpired) as also:
        raise Unreachable(f"{why}; {also}") from None
    tarball = next(fresh.glob("*.tar.gz"))
    run(["tar", "xzf", tarball, "-C", fresh])
    return next(path for path in fresh.iterdir() if path.is_dir())
