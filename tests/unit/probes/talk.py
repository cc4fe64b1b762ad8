"""Plays a conversation without a network: what the server says against what the probe sends."""

from __future__ import annotations

from collections.abc import Iterable

from hawatch.plugin import Probe, Receive, Result, Send, StartTls


def play(probe: Probe, server: Iterable[bytes]) -> tuple[Result, list[bytes]]:
    """Feed `server`'s pieces to the probe, then end of stream; return the result and what was sent (b"TLS" too)."""
    pieces = iter(server)
    sent: list[bytes] = []
    conversation = probe.converse()
    data = None
    while True:
        try:
            step = conversation.send(data)
        except StopIteration as end:
            return end.value, sent
        data = b""
        if isinstance(step, Send):
            sent.append(step.data)
        elif isinstance(step, StartTls):
            sent.append(b"TLS")
        else:
            assert isinstance(step, Receive)
            data = next(pieces, b"")
