"""A WebSocket proxy that gives each MQTT packet of the server a frame of its own, for clients that take a frame for a packet."""
import socket
import threading


def packets(data):
    """The whole packets of data, and the rest."""
    found = []
    while len(data) >= 2:
        n = shift = 0
        at = 1
        while at < len(data):
            n |= (data[at] & 127) << shift
            shift += 7
            at += 1
            if data[at - 1] < 128:
                break
        else:
            break
        if len(data) < at + n:
            break
        found.append(data[:at + n])
        data = data[at + n:]
    return found, data


def frame(body):
    n = len(body)
    return b"\x82" + (bytes([n]) if n < 126 else b"\x7e" + n.to_bytes(2, "big")) + body


class Reframer:
    def __init__(self, port):
        self.target, self.listener = port, socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self):
        self.listener.close()

    def _serve(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.target))
            for pump, ends in ((self._up, (client, server)), (self._down, (server, client))):
                threading.Thread(target=self._run, args=(pump, *ends), daemon=True).start()

    @staticmethod
    def _run(pump, source, target):
        try:
            pump(source, target)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    @staticmethod
    def _up(client, server):
        while data := client.recv(65536):
            server.sendall(data)

    @staticmethod
    def _down(server, client):
        raw = stream = b""
        while b"\r\n\r\n" not in raw:
            data = server.recv(65536)
            if not data:
                return
            raw += data
        head, _, raw = raw.partition(b"\r\n\r\n")
        client.sendall(head + b"\r\n\r\n")
        while data := server.recv(65536):
            raw += data
            while len(raw) >= 2:
                n, at = raw[1] & 127, 2
                if n >= 126:
                    at += 2 if n == 126 else 8
                    n = int.from_bytes(raw[2:at], "big")
                if len(raw) < at + n:
                    break
                if raw[0] & 15 in (0, 2):
                    stream += raw[at:at + n]
                else:
                    client.sendall(raw[:at + n])
                raw = raw[at + n:]
            whole, stream = packets(stream)
            client.sendall(b"".join(frame(p) for p in whole))
