"""Clients at work and what they got: counts by server, losses, and the longest time without service."""

from __future__ import annotations

import collections
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tests.lab.pair.client import OK
from tests.lab.pair.namespaces import Node
from tests.lab.pair.shell import LabError, wait_until

START_LIMIT_S = 20.0
END_LIMIT_S = 10.0


@dataclass(frozen=True, slots=True)
class Reply:
    """One request as a client lived it; instants are CLOCK_BOOTTIME in ns."""

    stream: str
    start_ns: int
    end_ns: int
    outcome: str
    server: str

    @property
    def ok(self) -> bool:
        """Whether it was served."""
        return self.outcome == OK


class Traffic:
    """A client process in a node, asking until `stop`."""

    def __init__(self, node: Node, streams: Sequence[str], name: str = "traffic") -> None:
        self.path = node.scratch / f"{name}.tsv"
        self.log = node.scratch / f"{name}.log"
        self.path.unlink(missing_ok=True)
        root = Path(__file__).parents[3]
        argv = [sys.executable, "-S", "-m", "tests.lab.pair.client", str(self.path), *streams]
        self.process: subprocess.Popen[bytes] = node.start(argv, log=self.log, cwd=root)

    def wait_served(self, kinds: Iterable[str] = ("http",), limit_s: float = START_LIMIT_S) -> None:
        """Wait until each of the kinds was served once."""
        wanted = set(kinds)
        wait_until(
            lambda: wanted <= {reply.stream for reply in self.so_far() if reply.ok},
            f"clients are served {', '.join(sorted(wanted))}",
            limit_s=limit_s,
            poll_s=0.1,
        )

    def so_far(self) -> list[Reply]:
        """Return the requests that have ended until now."""
        if self.process.poll() is not None:
            raise LabError(f"the client ended: {self.log.read_text(encoding='utf-8')[-2000:]}")
        if self.path.exists():
            self.process.send_signal(signal.SIGUSR1)
        return read_replies(self.path)

    def stop(self) -> list[Reply]:
        """End the client and return all requests."""
        self.process.terminate()
        self.process.wait(timeout=END_LIMIT_S)
        return read_replies(self.path)


def stream(kind: str, address: str, port: int, *, every_ms: float = 20, limit_ms: float = 1000, name: str = "") -> str:
    """Return the text of a stream for the client."""
    return f"kind={kind},address={address},port={port},every_ms={every_ms},limit_ms={limit_ms},name={name or kind}"


def read_replies(path: Path) -> list[Reply]:
    """Read a client's output; a last line that is not complete yet is left out."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    replies = []
    for line in lines:
        kind, start, end, outcome, server = line.split("\t")
        replies.append(Reply(kind, int(start), int(end), outcome, server))
    return replies


def between(replies: Iterable[Reply], start_ns: int, end_ns: int, kind: str = "") -> list[Reply]:
    """Return the requests of a kind that started in [start, end)."""
    return [r for r in replies if start_ns <= r.start_ns < end_ns and kind in ("", r.stream)]


def outage_ms(replies: Iterable[Reply], start_ns: int, end_ns: int) -> float:
    """Return the longest time between two answers in a row, in [start, end), whose bounds count as answers.

    With steady requests and no failure that is about the period: nothing is subtracted, it is what a client sees.
    """
    served = sorted(r.end_ns for r in replies if r.ok and start_ns <= r.end_ns < end_ns)
    instants = [start_ns, *served, end_ns]
    return max(later - earlier for earlier, later in pairwise(instants)) / 1e6


def lost(replies: Iterable[Reply]) -> int:
    """Return how many requests were not served."""
    return sum(not reply.ok for reply in replies)


def by_server(replies: Iterable[Reply]) -> dict[str, int]:
    """Return how many requests each server answered."""
    counts = collections.Counter(reply.server for reply in replies if reply.ok)
    return dict(sorted(counts.items()))


def failures(replies: Iterable[Reply]) -> dict[str, int]:
    """Return how many requests failed in which way."""
    return dict(collections.Counter(reply.outcome for reply in replies if not reply.ok).most_common())
