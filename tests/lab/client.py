"""A client of the site: asks again and again, and writes a JSON line for each answer.

    python -m tests.lab.client VIP OUTPUT [--http-every 0.03] [--others-every 0.3]

Standard library only: it must start quickly on a slow machine. Ends on SIGTERM.
"""

from __future__ import annotations

import argparse
import json
import socket
import threading
import time
from collections.abc import Callable
from typing import TextIO

TIMEOUT_S = 2.0
QUESTION = b"\x12\x34\0\0\0\1\0\0\0\0\0\0\3www\7example\3org\0\0\1\0\1"


def ask_http(vip: str, port: int = 80) -> str:
    with socket.create_connection((vip, port), TIMEOUT_S) as connection:
        connection.settimeout(TIMEOUT_S)
        connection.sendall(b"GET / HTTP/1.1\r\nHost: www.example.org\r\nConnection: close\r\n\r\n")
        answer = b""
        while data := connection.recv(4096):
            answer += data
    if not answer.startswith(b"HTTP/1.1 200"):
        raise OSError(f"answered {answer[:30]!r}")
    return answer.rsplit(b"\r\n\r\n", 1)[-1].decode().strip()


def ask_line(vip: str, port: int, good: bytes, quit_words: bytes) -> str:
    with socket.create_connection((vip, port), TIMEOUT_S) as connection:
        connection.settimeout(TIMEOUT_S)
        greeting = connection.recv(512)
        if not greeting.startswith(good):
            raise OSError(f"answered {greeting[:30]!r}")
        connection.sendall(quit_words)
        connection.recv(512)
    return greeting.split()[1].decode(errors="replace").split(".")[0]


def ask_dns(vip: str) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.settimeout(TIMEOUT_S)
        asker.connect((vip, 53))
        asker.send(QUESTION)
        answer = asker.recv(512)
    if answer[3] & 15 or answer[7] == 0:
        raise OSError(f"rcode {answer[3] & 15}, {answer[7]} answers")
    return _addresses(answer)[0]


def _addresses(answer: bytes) -> list[str]:
    """Return the addresses of A records in a short answer: type 1, class 1, any TTL, length 4."""
    found = []
    start = 0
    while (start := answer.find(b"\0\1\0\1", start)) >= 0:
        if answer[start + 8 : start + 10] == b"\0\4":
            found.append(socket.inet_ntoa(answer[start + 10 : start + 14]))
        start += 4
    return found


def keep_asking(kind: str, ask: Callable[[], str], every_s: float, output: TextIO, lock: threading.Lock) -> None:
    while True:
        started = time.monotonic()
        try:
            who, problem = ask(), ""
        except OSError as error:
            who, problem = "", str(error) or type(error).__name__
        line = {"time": time.monotonic(), "kind": kind, "server": who, "problem": problem,
                "ms": round((time.monotonic() - started) * 1000, 1)}  # fmt: skip
        with lock:
            output.write(json.dumps(line) + "\n")
            output.flush()
        time.sleep(max(0.0, every_s - (time.monotonic() - started)))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("vip")
    parser.add_argument("output")
    parser.add_argument("--http-every", type=float, default=0.03)
    parser.add_argument("--others-every", type=float, default=0.3)
    arguments = parser.parse_args()
    vip = arguments.vip
    asks: dict[str, tuple[Callable[[], str], float]] = {
        "http": (lambda: ask_http(vip), arguments.http_every),
        "intranet": (lambda: ask_http(vip, 8080), arguments.others_every),
        "smtp": (lambda: ask_line(vip, 25, b"220", b"QUIT\r\n"), arguments.others_every),
        "pop3": (lambda: ask_line(vip, 110, b"+OK", b"QUIT\r\n"), arguments.others_every),
        "dns": (lambda: ask_dns(vip), arguments.others_every),
    }
    lock = threading.Lock()
    with open(arguments.output, "a", encoding="utf-8") as output:
        threads = [
            threading.Thread(target=keep_asking, args=(kind, ask, every_s, output, lock), daemon=True)
            for kind, (ask, every_s) in asks.items()
        ]
        for thread in threads:
            thread.start()
        threads[0].join()


if __name__ == "__main__":
    main()
