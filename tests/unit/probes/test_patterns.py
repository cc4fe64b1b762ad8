"""Searches that end in time."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from hawatch.probes.patterns import LIMIT_S, Pattern, Search, TooSlow


@pytest.mark.parametrize(
    ("text", "data", "found"),
    [
        ("a.c", b"xabc", True),
        ("^ok$", b"not ok", False),
        ("(?i)OK", b"ok", True),
        ("^(?!.*error).*ready", b"ready, no error", False),
        ("ü+", "süüß".encode(), True),
        (r"\xff\x00", b"\xff\0", True),
    ],
)
def test_what_is_found(text: str, data: bytes, found: bool) -> None:
    assert Search(Pattern(text)).found_in(data) is found
    assert Search(Pattern(text)).found_in(bytearray(data)) is found


@pytest.mark.parametrize("text", ["(", "*", "[a", r"\1", "(?P<a>x)(?P<a"])
def test_what_is_no_expression(text: str) -> None:
    with pytest.raises(ValueError, match="not a regular expression"):
        Pattern(text)


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("<title>.*ok</title>", b"<title>" * 150_000),
        ("(a|a)+$", b"a" * 40 + b"b"),
    ],
)
def test_a_search_without_end_is_given_up(text: str, data: bytes) -> None:
    began_s = time.thread_time()
    with pytest.raises(TooSlow) as raised:
        Search(Pattern(text)).found_in(data)
    assert time.thread_time() - began_s < 20 * LIMIT_S
    assert str(raised.value).startswith(f'looking for "{text}" in {len(data)} bytes took more than 50 ms')


def test_many_short_searches_have_one_limit_together() -> None:
    search = Search(Pattern("<title>.*ok</title>"))
    data = b"<title>" * 1500  # some milliseconds
    assert not search.found_in(data)
    with pytest.raises(TooSlow):
        list(map(search.found_in, [data] * 10_000))


def test_nobody_else_pays_for_the_package() -> None:
    code = (
        "import sys; from hawatch.plugin import Target; from hawatch.probes.http import HttpOptions, HttpProbe; "
        "from hawatch.probes.tcp import TcpOptions, TcpProbe; from hawatch.probes.udp import UdpOptions, UdpProbe; "
        "HttpProbe(HttpOptions(body_regex=''), Target('::1', 80)); TcpProbe(TcpOptions(expect='a'), Target('::1', 1)); "
        "UdpProbe(UdpOptions(send='a'), Target('::1', 1)); sys.exit('regex' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
