"""Certificates for tests, made with the openssl command: a CA, a server for localhost, clients by name."""
import subprocess
import tempfile
from pathlib import Path


def openssl(*args):
    subprocess.run(["openssl", *map(str, args)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class Authority:
    """A CA of its own in a folder that every user may read; key and certificate files by name."""

    def __init__(self, name="test-ca"):
        self.folder = Path(tempfile.mkdtemp(prefix="mqtest-certs-"))
        self.folder.chmod(0o755)
        self.cert, self.key = self.folder / "ca.pem", self.folder / "ca.key"
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                "-subj", f"/CN={name}", "-keyout", self.key, "-out", self.cert)

    def issue(self, common_name, label=None):
        """A certificate for common_name (and localhost); returns (certificate, key)."""
        label = label or common_name
        cert, key, request = (self.folder / f"{label}.{end}" for end in ("pem", "key", "csr"))
        extensions = self.folder / f"{label}.ext"
        extensions.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n"
                              "extendedKeyUsage=serverAuth,clientAuth\n")
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
                f"/CN={common_name}", "-keyout", key, "-out", request)
        openssl("x509", "-req", "-in", request, "-CA", self.cert, "-CAkey", self.key, "-CAcreateserial", "-days", "2",
                "-extfile", extensions, "-out", cert)
        key.chmod(0o644)
        return cert, key
