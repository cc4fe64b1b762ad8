"""Watches the IPVS table of a namespace and remembers when each destination changed."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from tests.lab.netns import enter_namespace

POLL_S = 0.01
TABLE = Path("/proc/thread-self/net/ip_vs")
Weights = dict[tuple[str, str], int]
"""By "PROTOCOL address:port" of the service and "address:port" of the destination."""


def parse_table(text: str) -> Weights:
    """Return the weights of /proc/net/ip_vs, which has addresses and ports in hexadecimal."""
    found: Weights = {}
    service = ""
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] in ("TCP", "UDP"):
            service = f"{words[0]} {_address(words[1])}"
        elif len(words) > 3 and words[0] == "->" and ":" in words[1] and not words[1].startswith("Remote"):
            found[service, _address(words[1])] = int(words[3])
    return found


def _address(text: str) -> str:
    host, port = text.split(":")
    return ".".join(str(int(host[at : at + 2], 16)) for at in (0, 2, 4, 6)) + f":{int(port, 16)}"


class Watcher:
    """Reads the table every `POLL_S` in a thread of its own."""

    def __init__(self, namespace: str) -> None:
        self.weights: Weights = {}
        self.changes: list[tuple[float, Weights]] = []
        """When the table became what, by time.monotonic()."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(namespace,), daemon=True)
        self._thread.start()

    def _run(self, namespace: str) -> None:
        enter_namespace(namespace)
        while not self._stop.is_set():
            weights = parse_table(TABLE.read_text())
            if weights != self.weights:
                self.weights = weights
                self.changes.append((time.monotonic(), weights))
            self._stop.wait(POLL_S)

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join(10)

    def wait_weight(self, service: str, server: str, weight: int | None, since: float, limit_s: float) -> float:
        """Wait until a destination has a weight (None: is out); return the seconds from `since`.

        Raises TimeoutError when that does not come about within the limit.
        """
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            for moment, weights in self.changes:
                if moment >= since and weights.get((service, server)) == weight:
                    return moment - since
            time.sleep(POLL_S)
        raise TimeoutError(f"{server} in {service} has weight {self.weights.get((service, server))}, not {weight}, "
                           f"after {limit_s:.0f} s")  # fmt: skip
