"""mqgatectl over https: whom it trusts, and whom it does not."""
import re

import pytest

from api import Ctl
from mqtest.broker import Gateway
from mqtest.certs import Authority


@pytest.fixture(scope="module")
def authority(broker_kind):
    made = Authority()
    made.issue("node")
    return made


def gateway(authority, **more):
    return Gateway({"listeners.https": "127.0.0.1:0", "tls.cert": str(authority.folder / "node.pem"),
                    "tls.key": str(authority.folder / "node.key"), **more})


def https(node, host="127.0.0.1"):
    return f"https://{host}:{re.search(r'https=127.0.0.1:([0-9]+)', node.log_text()).group(1)}"


def test_trust(authority):
    with gateway(authority) as node:
        ctl, url = Ctl(node), https(node)
        ca = str(authority.cert)
        ctl.good("declare_queue", "q", url=url, env={"MQGATE_CA": ca})
        assert ctl.good("--ca", ca, "-s", "list_queues", "name", url=url) == "q\n"
        assert ctl.good("--ca", ca, "-s", "list_queues", "name", url=https(node, "localhost")) == "q\n"
        for args, word in (((), "not accepted"),  # signed by nobody the system knows
                           (("--ca", str(Authority("another").cert)), "not accepted"),
                           (("--ca", "/nowhere.pem"), "/nowhere.pem")):
            code, out, err = ctl.run(*args, "status", url=url)
            assert (code, out) == (69, "") and word in err and url in err, (args, err)
        code, out, err = ctl.run("--ca", ca, "status", url=url.replace("127.0.0.1", "127.0.0.2"))
        assert (code, out) == (69, "")


def test_name(authority):
    """A certificate of another host is refused, whoever signed it."""
    with gateway(authority, **{"listeners.https": "127.0.0.2:0"}) as node:
        port = re.search(r"https=127.0.0.2:([0-9]+)", node.log_text()).group(1)
        code, out, err = Ctl(node).run("--ca", str(authority.cert), "status", url=f"https://127.0.0.2:{port}")
        assert (code, out) == (69, "") and "not accepted" in err and "mismatch" in err


def test_not_tls(ctl, authority):
    """https to a port that speaks http."""
    url = f"https://127.0.0.1:{ctl.broker.http_port}"
    code, out, err = ctl.run("--ca", str(authority.cert), "status", url=url)
    assert (code, out) == (69, "") and "TLS" in err
