"""Clients from package registries, pinned, kept under ~/.cache/mqgate between runs.

A folder is named after what is in it, made under another name and moved, so that a broken download is never
taken for a good one. When a registry cannot be reached the test is skipped by name, with the reason.
"""
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib import error, request

import pytest

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "mqgate"
REACH_S, INSTALL_S = 10, 300


def reachable(url: str) -> bool:
    try:
        request.urlopen(request.Request(url, method="HEAD"), timeout=REACH_S).close()
        return True
    except error.HTTPError:
        return True
    except OSError:
        return False


def cached(kind: str, names, registry: str, make) -> Path:
    """The folder of `names`; make(folder) fills it when it is not there yet."""
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()[:12]
    folder = CACHE / f"{kind}-{digest}"
    if folder.exists():
        return folder
    if not reachable(registry):
        pytest.skip(f"{' '.join(names)[:100]}: {registry} cannot be reached within {REACH_S} s")
    CACHE.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=CACHE))
    try:
        make(fresh)
        try:
            fresh.rename(folder)
        except OSError:  # another run was quicker
            shutil.rmtree(fresh)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    return folder


def run_installer(command, **kw):
    done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=INSTALL_S, **kw)
    assert done.returncode == 0, f"{' '.join(map(str, command))}:\n{done.stdout[-3000:]}"


def python_packages(*names) -> dict:
    """An environment in which these packages from PyPI can be imported."""
    def make(folder):
        run_installer([sys.executable, "-m", "pip", "install", "-q", "--target", folder, *names])

    folder = cached("py", names, "https://pypi.org/simple/", make)
    return {**os.environ, "PYTHONPATH": str(folder), "PATH": f"{folder}/bin:{os.environ['PATH']}"}


def node_packages(*names) -> dict:
    def make(folder):
        run_installer(["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", folder, *names])

    folder = cached("node", names, "https://registry.npmjs.org/", make)
    return {**os.environ, "NODE_PATH": f"{folder}/node_modules"}


def maven_jars(*names) -> str:
    """The class path of these artifacts (group:artifact:version)."""
    def make(folder):
        for name in names:
            run_installer(["mvn", "-q", "-B", "dependency:copy", f"-Dartifact={name}", f"-DoutputDirectory={folder}"])

    folder = cached("jars", names, "https://repo.maven.apache.org/maven2/", make)
    return ":".join(str(jar) for jar in sorted(folder.glob("*.jar")))


POM = """<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>mqgate</groupId><artifactId>jars</artifactId><version>1</version><dependencies>{}</dependencies></project>"""
POM_ROW = "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>"


def maven_tree(*names) -> str:
    """The class path of these artifacts (group:artifact:version) and of all that they need."""
    def make(folder):
        (folder / "pom.xml").write_text(POM.format("".join(POM_ROW.format(*name.split(":")) for name in names)))
        run_installer(["mvn", "-q", "-B", "-f", folder / "pom.xml", "dependency:copy-dependencies",
                       f"-DoutputDirectory={folder}"])

    folder = cached("tree", names, "https://repo.maven.apache.org/maven2/", make)
    return ":".join(str(jar) for jar in sorted(folder.glob("*.jar")))


def go_program(source: Path) -> Path:
    """The program of this folder, built with the modules that its go.sum names."""
    def make(folder):
        for path in files:
            shutil.copy(path, folder)
        run_installer(["go", "build", "-C", folder, "-buildvcs=false", "-o", "program", "."])

    files = sorted(path for path in source.iterdir() if path.is_file())
    names = [f"go:{source.name}", *(path.read_text() for path in files)]
    return cached("go", names, "https://proxy.golang.org/", make) / "program"
