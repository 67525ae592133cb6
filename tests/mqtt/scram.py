"""The client's half of SCRAM (RFC 5802), small and strict: it checks the server's proof, too."""
import base64
import hashlib
import hmac
import os


class Scram:
    def __init__(self, user, password, hash_name="sha256"):
        self.password, self.hash = password.encode(), hash_name
        self.nonce = base64.b64encode(os.urandom(18)).decode()
        name = user.replace("=", "=3D").replace(",", "=2C")
        self.bare = f"n={name},r={self.nonce}"
        self.wanted = None

    def first(self):
        return b"n,," + self.bare.encode()

    def _hmac(self, key, data):
        return hmac.new(key, data, self.hash).digest()

    def final(self, server_first):
        """What answers the server's first message."""
        said = dict(part.split("=", 1) for part in server_first.decode().split(","))
        assert said["r"].startswith(self.nonce) and len(said["r"]) > len(self.nonce)
        salted = hashlib.pbkdf2_hmac(self.hash, self.password, base64.b64decode(said["s"]), int(said["i"]))
        key = self._hmac(salted, b"Client Key")
        without = f"c=biws,r={said['r']}"
        text = f"{self.bare},{server_first.decode()},{without}".encode()
        signature = self._hmac(hashlib.new(self.hash, key).digest(), text)
        self.wanted = base64.b64encode(self._hmac(self._hmac(salted, b"Server Key"), text))
        proof = base64.b64encode(bytes(a ^ b for a, b in zip(key, signature)))
        return without.encode() + b",p=" + proof

    def check(self, server_final):
        assert server_final == b"v=" + self.wanted
