"""hawatch's prober in a process of its own, and a process that stands in for the core at the other end of its channel.

    python -m tests.bench.standin KIND FIRST_ADDRESS... (run by tests.bench.checks in the checkers' namespace)

Prints "assigned PROBER_PID CORE_PID", then a JSON line for each summary that the prober sends.
"""

from __future__ import annotations

import json
import os
import socket
import sys

from hawatch.agent.link import FrameSplitter, frame, leash_pair, send_leash, work_pair
from hawatch.agent.messages import Assign, Link, Summary, Verdicts
from hawatch.agent.prober import prober_main
from hawatch.config.plan import check_id
from hawatch.model import NS_PER_S, Check, CheckState
from hawatch.registry import probe_class


def checks_of(kind: str, addresses: list[str]) -> list[Check]:
    """Return one check a second of each address."""
    options = probe_class(kind).options_type().model_dump(mode="json")
    port = None if kind == "ping" else 80
    return [
        Check(
            id=check_id(kind.encode(), address), type=kind, options=options, address=address, port=port,
            interval_ns=NS_PER_S, timeout_ns=NS_PER_S, rise=2, fall=3,
        )
        for address in addresses
    ]  # fmt: skip


def stand_in(end: socket.socket, checks: list[Check]) -> None:
    """Be the core: assign, and take what comes."""
    end.sendall(frame(Assign(checks, [])))
    splitter = FrameSplitter()
    up: set[str] = set()
    while data := end.recv(1 << 20):
        for message in splitter.feed(data):
            match message:
                case Verdicts(verdicts=verdicts):
                    up.update(one.check for one in verdicts if one.state is CheckState.UP)
                    up.difference_update(one.check for one in verdicts if one.state is not CheckState.UP)
                case Summary():
                    print(json.dumps({
                        "runs": sum(row.runs for row in message.checks),
                        "failures": sum(row.failures for row in message.checks),
                        "latency_us": sorted(row.latency_us for row in message.checks),
                        "reasons": sorted({row.last_reason for row in message.checks})[:5],
                        "late_ms_max": message.late_ms_max, "discarded": message.discarded, "up": len(up),
                    }), flush=True)  # fmt: skip


def main() -> None:
    """Fork the prober, then be the core."""
    kind, *addresses = sys.argv[1:]
    keeper_end, prober_end = leash_pair()
    core_end, work_end = work_pair()
    pid = os.fork()
    if pid == 0:
        keeper_end.close()
        core_end.close()
        work_end.close()
        prober_main(prober_end, "prober")
        os._exit(0)
    prober_end.close()
    send_leash(keeper_end, Link("prober"), work_end.fileno())
    work_end.close()
    print(f"assigned {pid} {os.getpid()}", flush=True)
    stand_in(core_end, checks_of(kind, addresses))


if __name__ == "__main__":
    main()
