"""The tcp probe's conversation."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from hawatch.plugin import Target
from hawatch.probes.tcp import TcpOptions, TcpProbe
from tests.unit.probes.talk import play


def probe(**options: object) -> TcpProbe:
    return TcpProbe(TcpOptions.model_validate(options), Target("192.0.2.1", 7))


@pytest.mark.parametrize(
    ("options", "server", "sent", "reason"),
    [
        ({}, [], [], ""),
        ({"send": "QUIT\r\n"}, [], [b"QUIT\r\n"], ""),
        ({"expect": "220"}, [b"2", b"20 hello"], [], ""),
        ({"send": "PING\r\n", "expect": "+PONG"}, [b"+PONG\r\n"], [b"PING\r\n"], ""),
        ({"send_hex": "00 ff0A", "expect_regex": r"\xff\x00"}, [b"x\xff", b"\0"], [b"\0\xff\n"], ""),
        ({"expect_regex": "(a|a)+$"}, [b"a" * 40 + b"b"], [], 'looking for "(a|a)+$" in 41 bytes took more than 50 ms'),
        ({"expect": "a.c"}, [b"abc"], [], 'answer "abc", wanted "a.c"'),
        ({"expect_regex": "a.c"}, [b"abc"], [], ""),
        ({"expect": "220"}, [], [], 'connection closed without an answer, wanted "220"'),
        ({"expect": "220"}, [b"554 no\r\n"], [], 'answer "554 no", wanted "220"'),
        ({"expect": "z", "limit": 4}, [b"ab", b"cd", b"z"], [], 'answer "abcd", wanted "z"'),
    ],
)
def test_conversations(options: dict[str, object], server: list[bytes], sent: list[bytes], reason: str) -> None:
    result, said = play(probe(**options), server)
    assert (result.ok, result.reason.partition(": make")[0], said) == (not reason, reason, sent)


@pytest.mark.parametrize(
    "options",
    [
        {"expect": "a", "expect_regex": "b"},
        {"expect_regex": "("},
        {"limit": 0},
        {"sned": "x"},
        {"send_hex": "0"},
        {"send": "a", "send_hex": "00"},
    ],
)
def test_options_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TcpOptions.model_validate(options)


def test_tls() -> None:
    assert probe().tls() is None
    assert probe().tls_mode() == "none"
    assert probe(security="tls").tls() is not None
    assert probe(security="tls").tls_mode() == "tls"
