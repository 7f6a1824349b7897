#!/usr/bin/env python3
"""A gateway before a plain Kafka broker on this machine, for tests: TLS towards the client, SASL by PLAIN and SCRAM-SHA-256 (RFC 5802), and
quotas of bytes per second for each client id: as a broker does since KIP-219, it says in the answer how long the client is held back, and
takes the connection's next request only when that time is over.

The broker tells clients its own address; in each of its answers the gateway puts its own port in that place.
"""

import argparse
import asyncio
import base64
import hashlib
import hmac
import os
import ssl
import struct
import time

PRODUCE, FETCH, API_VERSIONS, SASL_HANDSHAKE, SASL_AUTHENTICATE = 0, 1, 18, 17, 36
# From these on the answer has tagged fields, and the throttle time another place.
FLEXIBLE = {PRODUCE: 9, FETCH: 12}
UNSUPPORTED_MECHANISM, AUTHENTICATION_FAILED = 33, 58
MECHANISMS = ["PLAIN", "SCRAM-SHA-256"]
ITERATIONS = 4096


class Refused(Exception):
    pass


def plain(user, password):
    _, name, given = (yield b"").split(b"\0")
    if (name, given) != (user, password):
        raise Refused("Authentication failed: Invalid username or password")
    return b""


def scram(user, password):
    first = (yield b"").split(b",", 2)[2]
    attributes = dict(part.split(b"=", 1) for part in first.split(b","))
    nonce, salt = attributes[b"r"] + base64.b64encode(os.urandom(18)), os.urandom(16)
    challenge = b"r=%s,s=%s,i=%d" % (nonce, base64.b64encode(salt), ITERATIONS)
    final = yield challenge
    message, proof = final.rsplit(b",p=", 1)

    def mac(key, text):
        return hmac.digest(key, text, "sha256")

    salted = hashlib.pbkdf2_hmac("sha256", password, salt, ITERATIONS)
    client_key, server_key = mac(salted, b"Client Key"), mac(salted, b"Server Key")
    transcript = b",".join([first, challenge, message])
    signature = mac(hashlib.sha256(client_key).digest(), transcript)
    expected = bytes(a ^ b for a, b in zip(client_key, signature))
    if attributes[b"n"] != user or not hmac.compare_digest(base64.b64decode(proof), expected):
        raise Refused("Authentication failed during authentication due to invalid credentials with SASL mechanism SCRAM-SHA-256")
    return b"v=" + base64.b64encode(mac(server_key, transcript))


def text(value):
    return struct.pack(">h", len(value)) + value.encode()


class Connection:
    """What its two directions tell each other."""

    def __init__(self):
        # By correlation id: API key, version, client id and size.
        self.asked = {}
        self.muted_until = 0.0


class Gateway:
    def __init__(self, options):
        self.options = options
        self.credentials = None
        if options.user:
            with open(options.password_file, "rb") as file:
                self.credentials = options.user.encode(), file.read().rstrip(b"\n")
        self.upstream = b"127.0.0.1" + struct.pack(">i", options.broker)
        self.own = b"127.0.0.1" + struct.pack(">i", options.listen)
        # By API key and client id: when what went through is paid for.
        self.paid_at = {}

    async def frame(self, reader):
        size = await reader.readexactly(4)
        return await reader.readexactly(struct.unpack(">i", size)[0])

    @staticmethod
    def send(writer, frame):
        writer.write(struct.pack(">i", len(frame)) + frame)

    def throttled(self, frame, connection):
        """The answer with the throttle time in it; the connection is muted for as long."""
        key, version, client, size = connection.asked.pop(struct.unpack(">i", frame[:4])[0])
        if not self.options.quota or key not in FLEXIBLE:
            return frame
        assert 1 <= version < FLEXIBLE[key], f"version {version} of API {key} has its throttle time elsewhere"
        now = time.monotonic()
        paid_at = max(now, self.paid_at.get((key, client), now)) + (size if key == PRODUCE else len(frame)) / self.options.quota
        self.paid_at[key, client] = paid_at
        milliseconds = int((paid_at - now) * 1000)
        connection.muted_until = now + milliseconds / 1000
        throttle = struct.pack(">i", milliseconds)
        return frame[:-4] + throttle if key == PRODUCE else frame[:4] + throttle + frame[8:]

    async def answers(self, reader, writer, connection):
        while True:
            frame = (await self.frame(reader)).replace(self.upstream, self.own)
            self.send(writer, self.throttled(frame, connection))
            await writer.drain()

    async def requests(self, reader, writer, upstream, connection):
        exchange, is_in = None, self.credentials is None
        while True:
            frame = await self.frame(reader)
            await asyncio.sleep(max(0, connection.muted_until - time.monotonic()))
            key, version, correlation, length = struct.unpack(">hhih", frame[:10])
            client, body = frame[10 : 10 + max(0, length)], frame[10 + max(0, length) :]
            if self.credentials and key == SASL_HANDSHAKE:
                mechanism = body[2:].decode()
                known = mechanism in MECHANISMS
                if known:
                    exchange = (plain if mechanism == "PLAIN" else scram)(*self.credentials)
                    next(exchange)
                answer = struct.pack(">hi", 0 if known else UNSUPPORTED_MECHANISM, len(MECHANISMS)) + b"".join(map(text, MECHANISMS))
                self.send(writer, struct.pack(">i", correlation) + answer)
            elif self.credentials and key == SASL_AUTHENTICATE and exchange:
                error, message, token = 0, struct.pack(">h", -1), b""
                try:
                    token = exchange.send(body[4:])
                except StopIteration as end:
                    token, is_in = end.value, True
                except Refused as refusal:
                    error, message = AUTHENTICATION_FAILED, text(str(refusal))
                self.send(writer, struct.pack(">ih", correlation, error) + message + struct.pack(">i", len(token)) + token)
                if error:
                    await writer.drain()
                    return
            elif is_in or key == API_VERSIONS:
                connection.asked[correlation] = key, version, client, len(frame)
                self.send(upstream, frame)
                await upstream.drain()
            else:
                return

    async def serve(self, reader, writer):
        broker, upstream = await asyncio.open_connection("127.0.0.1", self.options.broker)
        connection = Connection()
        directions = [self.answers(broker, writer, connection), self.requests(reader, writer, upstream, connection)]
        tasks = [asyncio.create_task(direction) for direction in directions]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            writer.close()
            upstream.close()

    async def run(self):
        context = None
        if self.options.certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.options.certificate, self.options.key)
        server = await asyncio.start_server(self.serve, "127.0.0.1", self.options.listen, ssl=context, limit=1 << 26)
        await server.serve_forever()


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--broker", type=int, required=True, help="its port")
parser.add_argument("--listen", type=int, required=True, help="the gateway's port")
parser.add_argument("--certificate", help="chain in PEM; without it no TLS")
parser.add_argument("--key", help="of the certificate, in PEM")
parser.add_argument("--user", help="who is let in; without it no SASL")
parser.add_argument("--password-file")
parser.add_argument("--quota", type=int, help="bytes per second that a client id may fetch, and may produce; without it as many as it likes")
asyncio.run(Gateway(parser.parse_args()).run())
