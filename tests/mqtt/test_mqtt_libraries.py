"""Client libraries, unmodified: the Paho C client, MQTT.js over TCP and WebSocket, HiveMQ's Java client. Each has a program that runs
one pattern after the other and prints "ok NAME" for each."""
import shutil
import subprocess
from pathlib import Path

import pytest
from mqtest import cache
from reframe import Reframer

PROGRAMS = Path(__file__).resolve().parent / "programs"
RUN_S = 120
pytestmark = [pytest.mark.long, pytest.mark.timeout(cache.INSTALL_S + RUN_S)]


def run(command, patterns, env=None):
    done = subprocess.run([str(part) for part in command], env=env, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=RUN_S)
    said = [line[3:] for line in done.stdout.splitlines() if line.startswith("ok ")]
    assert (done.returncode, said) == (0, patterns), done.stdout[-3000:]


@pytest.mark.parametrize("over", ["tcp", "websocket"])
def test_paho_c(node, unique, tmp_path, over):
    """Over WebSocket through a proxy that gives each packet a frame of its own: 1.3.12 takes the first packet of a frame, and waits for
    another frame before it looks at the next one ([MQTT-6.0.0-2] forbids that); the gateway puts what leaves at once into one frame."""
    if not Path("/usr/include/MQTTClient.h").exists():
        pytest.skip("Paho C: libpaho-mqtt-dev is not installed")
    program = tmp_path / "paho_c"
    subprocess.run(["gcc", "-std=gnu17", "-O1", "-o", program, PROGRAMS / "paho_c.c", "-lpaho-mqtt3c", "-lpthread"], check=True)
    patterns = [f"{p}_{v}" for v in ("31", "311", "5") for p in ("qos", "retained", "session", "will") if (p, v) != ("session", "31")]
    proxy = Reframer(node.ports["mqtt_ws"])
    url = f"tcp://127.0.0.1:{node.ports['mqtt']}" if over == "tcp" else f"ws://127.0.0.1:{proxy.port}/ws"
    run([program, url, unique], patterns + ["properties"])
    proxy.close()


@pytest.mark.parametrize("scheme, listener", [("mqtt", "mqtt"), ("ws", "mqtt_ws")])
def test_mqtt_js(node, unique, scheme, listener):
    if not shutil.which("npm"):
        pytest.skip("MQTT.js: npm is not installed")
    env = cache.node_packages("mqtt@5.10.1")
    path = "/ws" if scheme == "ws" else ""
    run(["node", PROGRAMS / "mqttjs.js", f"{scheme}://127.0.0.1:{node.ports[listener]}{path}", unique],
        ["qos_311", "qos_5", "retained", "session", "properties", "shared", "will", "scram"], env)


def test_hivemq(node, unique):
    if not shutil.which("mvn") or not shutil.which("javac"):
        pytest.skip("HiveMQ's client: mvn or javac is not installed")
    netty = [f"io.netty:netty-{part}:4.1.100.Final" for part in ("buffer", "codec", "common", "handler", "resolver",
                                                                 "transport", "transport-native-unix-common")]
    jars = cache.maven_jars("com.hivemq:hivemq-mqtt-client:1.3.3", "io.reactivex.rxjava2:rxjava:2.2.21",
                            "org.reactivestreams:reactive-streams:1.0.4", "com.google.dagger:dagger:2.27",
                            "javax.inject:javax.inject:1", "org.jctools:jctools-core:2.1.2", *netty)
    run(["java", "-cp", jars, PROGRAMS / "Hive.java", node.ports["mqtt"], unique],
        ["qos_311", "qos_5", "retained", "session", "properties", "shared"])
