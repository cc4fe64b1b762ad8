from __future__ import annotations

import json

import pytest

from hawatch.control import protocol
from hawatch.control.protocol import Done, Progress, Refused, decode_reply, decode_request, encode_line, raw


@pytest.mark.parametrize(
    "request_",
    [
        protocol.Status(),
        protocol.Drain(service="http", server="192.0.2.1", wait=True, timeout_s=1.5),
        protocol.Enable(service="all", server="all"),
        protocol.Events(count=3, follow=True),
        protocol.Takeover(group="web", force=True),
    ],
)
def test_requests_arrive_as_they_were_sent(request_: protocol.Request) -> None:
    line = encode_line(request_)
    assert line.endswith(b"\n")
    assert b"\n" not in line[:-1]
    assert decode_request(line) == request_


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", "not a request"),
        (b"[]", "not a request"),
        (b'{"command": "explode"}', "not a request"),
        (b'{"command": "drain"}', "not a request"),
        (b'{"command": "status", "extra": 1}', "not a request"),
        (b'{"command": "status", "version": 2}', "of version 2, this agent speaks version 1"),
        (b"\xff\xfe", "not a request"),
        (b"[" * 5000, "not a request"),
    ],
)
def test_what_is_no_request_is_refused_with_a_reason(line: bytes, reason: str) -> None:
    answer = decode_request(line)
    assert isinstance(answer, Refused)
    assert reason in answer.reason


def test_replies() -> None:
    for reply in (Done(data=raw({"a": 1})), Refused(reason="no", problems=["x"]), Progress(text="2 left")):
        assert decode_reply(encode_line(reply)) == reply
    assert json.loads(encode_line(Done(data=raw({"a": 1})))) == {"kind": "done", "version": 1, "data": {"a": 1}}
