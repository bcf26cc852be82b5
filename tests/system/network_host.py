# SPDX-License-Identifier: Apache-2.0
"""A test host: an HTTP server that says hello, and a DNS server that knows one address."""

from __future__ import annotations

import argparse
import http.server
import socket
import struct
import threading


class Hello(http.server.BaseHTTPRequestHandler):
    """Answers every GET."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, format: str, *args: object) -> None:
        pass


def answer(sock: socket.socket) -> None:
    """Every name is 10.77.0.2, in IPv4; other questions have no answer."""
    while True:
        query, peer = sock.recvfrom(512)
        is_a = query[-4:-2] == b"\0\1"
        reply = query[:2] + b"\x81\x80\0\1" + struct.pack(">H", is_a) + b"\0\0\0\0" + query[12:]
        if is_a:
            reply += b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + socket.inet_aton("10.77.0.2")
        sock.sendto(reply, peer)


def address(text: str) -> tuple[str, int]:
    """ADDR:PORT"""
    host, port = text.rsplit(":", 1)
    return host, int(port)


class Server(http.server.ThreadingHTTPServer):
    """Answers on an address of either family; "::" is both."""

    address_family = socket.AF_INET6


def main() -> None:
    """Listens, says so, serves."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--http", type=address, required=True)
    parser.add_argument("--dns", type=address)
    options = parser.parse_args()
    server = Server(options.http, Hello)
    if options.dns:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(options.dns)
        threading.Thread(target=answer, args=(sock,), daemon=True).start()
    print("ready", flush=True)
    server.serve_forever()


main()
