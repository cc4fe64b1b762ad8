from __future__ import annotations

import errno
import socket
import ssl

import pytest

from hawatch.faults import (
    broken_reason,
    connect_reason,
    deadline_reason,
    exception_reason,
    handshake_reason,
)
from hawatch.model import NS_PER_MS


@pytest.mark.parametrize(
    ("timeout_ms", "text"), [(1000, "1 s"), (1500, "1.5 s"), (250, "250 ms"), (60_000, "60 s"), (0.5, "0.5 ms")]
)
def test_deadline(timeout_ms: float, text: str) -> None:
    assert deadline_reason("greeting", int(timeout_ms * NS_PER_MS)) == f"no greeting in {text}"


def test_connect_reasons() -> None:
    assert connect_reason(OSError(errno.ECONNREFUSED, "x")) == "connection refused"
    assert connect_reason(OSError(errno.EIO, "x")) == "no connection: Input/output error"
    assert connect_reason(OSError("strange")) == "no connection: strange"
    unknown = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    assert connect_reason(unknown) == "no connection: the name cannot be resolved (Name or service not known)"


def test_broken_reasons() -> None:
    reset = ConnectionResetError(errno.ECONNRESET, "x")
    assert (
        broken_reason(reset, "waiting for answer", 1)
        == "connection reset by the server after 1 byte, while waiting for answer"
    )
    assert broken_reason(reset, "sending", 0) == "connection reset by the server before its first byte, while sending"
    assert broken_reason(None, "sending", 2) == "connection lost after 2 bytes, while sending"
    assert broken_reason(OSError(errno.EHOSTUNREACH, "x"), "sending", 2).endswith("while sending: No route to host")
    assert "TLS failed after 2 bytes" in broken_reason(ssl.SSLError(1, "bad"), "sending", 2)


def test_handshake_reasons() -> None:
    assert handshake_reason(None, b"HTTP/1.1 400\r\n") == 'no TLS: the server answered in the clear: "HTTP/1.1 400"'
    assert handshake_reason(None, b"\x16\x03") == "connection closed by the server in the TLS handshake"
    reset = ConnectionResetError(errno.ECONNRESET, "x")
    assert handshake_reason(reset, b"") == "connection reset by the server in the TLS handshake"


def test_exception_reason_unwraps_groups_of_one() -> None:
    group = BaseExceptionGroup("g", [ExceptionGroup("h", [ValueError("v")])])
    assert exception_reason(group) == "the probe raised ValueError: v"
