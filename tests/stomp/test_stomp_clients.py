"""Public STOMP clients, unmodified: stomp.py and the gem stomp from Debian, stompjs in Node and in headless Chromium from npm."""
import functools
import http.server
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mqtest import cache

PROGRAMS = Path(__file__).resolve().parent / "programs"
RUN_S = 60
STOMPJS = ("@stomp/stompjs@7.0.0", "ws@8.16.0")


def run(command, env=None):
    done = subprocess.run([str(part) for part in command], env=env, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=RUN_S)
    assert done.returncode == 0, done.stdout[-3000:]
    return [line for line in done.stdout.splitlines() if line.startswith("ok ")]


@pytest.mark.long
@pytest.mark.timeout(RUN_S + 30)
def test_stomp_py(broker, unique):
    if subprocess.run([sys.executable, "-c", "import stomp"], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("package python3-stomp is not installed")
    oks = run([sys.executable, PROGRAMS / "patterns_stomppy.py", broker.host, broker.ports["stomp"], unique("py")])
    assert len(oks) == 10, oks


@pytest.mark.long
@pytest.mark.timeout(RUN_S + 30)
def test_ruby_stomp(broker, unique):
    if subprocess.run(["ruby", "-e", "require 'stomp'"], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("package ruby-stomp is not installed")
    oks = run(["ruby", PROGRAMS / "patterns_stomp.rb", broker.host, broker.ports["stomp"], unique("rb")])
    assert len(oks) == 10, oks


@pytest.mark.long
@pytest.mark.timeout(cache.INSTALL_S + RUN_S)
def test_stompjs_in_node(broker, unique):
    if not shutil.which("npm"):
        pytest.skip("package npm is not installed")
    env = cache.node_packages(*STOMPJS)
    oks = run(["node", PROGRAMS / "stompjs_node.js", f"ws://127.0.0.1:{broker.ports['stomp_ws']}/ws", unique("js")], env)
    assert len(oks) == 11, oks


class PageHandler(http.server.SimpleHTTPRequestHandler):
    """Serves the page, and takes what it reports at its end."""

    def do_POST(self):
        self.server.reports.put(self.rfile.read(int(self.headers["content-length"])).decode())
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def page(tmp_path):
    """The page beside stompjs, behind a small web server."""
    library = Path(cache.node_packages(*STOMPJS)["NODE_PATH"]) / "@stomp/stompjs/bundles/stomp.umd.js"
    shutil.copy(library, tmp_path)
    shutil.copy(PROGRAMS / "page.html", tmp_path)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(PageHandler, directory=str(tmp_path)))
    server.reports = queue.Queue()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()


@pytest.mark.long
@pytest.mark.timeout(cache.INSTALL_S + RUN_S)
def test_stompjs_in_chromium(broker, unique, page, tmp_path):
    if not shutil.which("chromium") or not shutil.which("npm"):
        pytest.skip("packages chromium and npm are not installed")
    url = f"http://127.0.0.1:{page.server_address[1]}/page.html?ws://127.0.0.1:{broker.ports['stomp_ws']}/ws," \
          f"/queue/{unique('page')}"
    browser = subprocess.Popen(["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                                f"--user-data-dir={tmp_path / 'profile'}", "--remote-debugging-port=0", url],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        assert page.reports.get(timeout=RUN_S) == "ok connected 1.2\nok messages 51\nok closed\n"
    finally:
        os.killpg(browser.pid, signal.SIGKILL)
        browser.wait()
