"""A raw MQTT client over WebSocket: frames as a test wants them."""
import os
import struct

from raw import Closed, Raw, receive

BINARY, TEXT, CLOSE, PING, PONG = 2, 1, 8, 9, 10


def frame(opcode, data, fin=True):
    mask = os.urandom(4)
    n = len(data)
    head = bytes([(0x80 if fin else 0) | opcode])
    head += bytes([0x80 | n]) if n < 126 else b"\xfe" + struct.pack(">H", n) if n < 65536 else b"\xff" + struct.pack(">Q", n)
    return head + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(data))


class WsRaw(Raw):
    """split: bytes of a frame; 0: what is sent at once is one."""

    def __init__(self, port, version=5, protocols="mqtt", split=0):
        super().__init__(port, version)
        self.split, self.frames = split, b""
        self.opcodes = set()  # of what the server sent
        self.sock.sendall(f"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                          f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
                          f"Sec-WebSocket-Protocol: {protocols}\r\n\r\n".encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            got = self.sock.recv(1)
            if not got:
                raise Closed
            head += got
        lines = head.decode().split("\r\n")
        self.status = int(lines[0].split()[1])
        self.headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:])}

    def send(self, data):
        step = self.split or len(data)
        for at in range(0, len(data), step):
            self.sock.sendall(frame(BINARY, data[at:at + step]))

    def _fill(self, deadline):
        self.frames += receive(self.sock, deadline)
        while self._take():
            pass

    def _take(self):
        if len(self.frames) < 2:
            return False
        n, at = self.frames[1] & 127, 2
        if n >= 126:
            size = 2 if n == 126 else 8
            if len(self.frames) < 2 + size:
                return False
            n, at = int.from_bytes(self.frames[2:2 + size], "big"), 2 + size
        if len(self.frames) < at + n:
            return False
        opcode, body = self.frames[0] & 15, self.frames[at:at + n]
        self.frames = self.frames[at + n:]
        self.opcodes.add(opcode)
        if opcode in (0, TEXT, BINARY):
            self.buffer += body
        return True
