"""The http probe's conversation: what it asks, and how it judges what comes, whatever the pieces."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from hawatch.plugin import Result, Target
from hawatch.probes.http import FRAMING_LIMIT, HEAD_LIMIT, HttpOptions, HttpProbe
from tests.unit.probes.talk import play

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"
CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
TITLES = b"HTTP/1.1 200 OK\r\n\r\n" + b"<title>" * 149_796
INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"


def probe(address: str = "192.0.2.1", port: int = 80, **options: object) -> HttpProbe:
    return HttpProbe(HttpOptions.model_validate(options), Target(address, port))


def ask(answer: bytes, **options: object) -> Result:
    return play(probe(**options), [answer])[0]


@pytest.mark.parametrize(
    ("made", "first_lines"),
    [
        (probe(), b"GET / HTTP/1.1\r\nHost: 192.0.2.1\r\nUser-Agent: hawatch\r\n"),
        (
            probe(method="POST"),
            b"POST / HTTP/1.1\r\nHost: 192.0.2.1\r\nUser-Agent: hawatch\r\nAccept: */*\r\nConnection: close\r\n"
            b"Content-Length: 0\r\n",
        ),
        (probe(port=8080), b"GET / HTTP/1.1\r\nHost: 192.0.2.1:8080\r\n"),
        (probe("2001:db8::1", 8080), b"GET / HTTP/1.1\r\nHost: [2001:db8::1]:8080\r\n"),
        (probe(port=443, security="tls"), b"GET / HTTP/1.1\r\nHost: 192.0.2.1\r\n"),
        (probe(port=80, security="tls"), b"GET / HTTP/1.1\r\nHost: 192.0.2.1:80\r\n"),
        (probe(host="www.example.org", path="/a?b=c"), b"GET /a?b=c HTTP/1.1\r\nHost: www.example.org\r\n"),
        (probe(method="HEAD", headers={"hOsT": "x", "A": "b"}), b"HEAD / HTTP/1.1\r\nUser-Agent: hawatch\r\n"),
    ],
)
def test_what_is_asked(made: HttpProbe, first_lines: bytes) -> None:
    _, (request,) = play(made, [OK])
    assert request.startswith(first_lines)
    assert request.endswith(b"\r\n\r\n")
    assert b"Connection: close\r\n" in request
    assert made.is_conversation()


@pytest.mark.parametrize("answer", [OK, CHUNKED, INTERIM + OK, INTERIM * 3 + CHUNKED, b"HTTP/1.0 200 OK\r\n\r\nhello"])
@given(data=st.data())
def test_an_answer_in_any_pieces_is_the_same(answer: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(answer)), max_size=8)))
    pieces = [answer[start:end] for start, end in zip([0, *cuts], [*cuts, len(answer)], strict=True) if end > start]
    digest = hashlib.sha256(b"hello").hexdigest()
    result, _ = play(probe(body="hello", body_regex="^hello$", digest=digest), pieces)
    assert result == Result(ok=True, detail="5 bytes of body")


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_anything_gets_a_verdict(first: bytes, second: bytes) -> None:
    for head in (b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\n\r\n"):
        result, _ = play(probe(), [piece for piece in (head + first, second) if piece])
        assert result.ok or result.reason


@pytest.mark.parametrize(
    ("answer", "options", "reason"),
    [
        (OK, {"status": [204]}, "HTTP 200, wanted 204"),
        (b"HTTP/1.1 301 M\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", {}, "HTTP 301, wanted 200-299"),
        (OK, {"body": "bye"}, 'body without "bye": "hello"'),
        (OK, {"body_regex": "^b"}, 'body without a match of "^b": "hello"'),
        (OK, {"digest": "0" * 64}, "body has the digest 2cf24dba5fb0a30e..., wanted 0000000000000000..."),
        (OK, {"size_limit": 4}, "HTTP body of more than 4 bytes"),
        (OK[:-1], {}, "connection closed after 4 bytes of the HTTP body, before its end"),
        (CHUNKED[:-3], {}, "connection closed after 5 bytes of the HTTP body, before its end"),
        (OK[:20], {}, "connection closed after 20 bytes, within the HTTP headers"),
        (INTERIM, {}, f"connection closed after {len(INTERIM)} bytes, within the HTTP headers"),
        (b"", {}, "connection closed without an HTTP answer"),
        (b"+OK POP3 ready\r\n", {}, "not an HTTP answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", {}, "not an HTTP answer"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * HEAD_LIMIT, {}, f"HTTP headers of more than {HEAD_LIMIT} bytes"),
        (INTERIM * 2000, {}, f"HTTP headers of more than {HEAD_LIMIT} bytes"),
        (TITLES, {"body_regex": "<title>.*ok</title>"}, 'looking for "<title>.*ok</title>" in 1048572 bytes took more'),
        (
            CHUNKS + b"1;" + b"e" * (FRAMING_LIMIT + HEAD_LIMIT),
            {},
            f"more than {FRAMING_LIMIT} bytes of the HTTP answer are neither",
        ),
        (CHUNKS + b"0\r\n" + b"A: b\r\n" * FRAMING_LIMIT, {}, f"more than {FRAMING_LIMIT} bytes of the HTTP answer"),
        (CHUNKS + b"ffffffffffffffff1\r\n", {}, "not an HTTP answer"),
        (CHUNKS + b"7fffffffffffffff\r\nabc", {}, "connection closed after 3 bytes of the HTTP body, before its end"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", {}, "not an HTTP answer"),
        (OK.replace(b"hello", b"\x1b[2J\0"), {"body": "x"}, 'body without "x": "[2J"'),
    ],
)
def test_what_is_not_as_wanted(answer: bytes, options: dict[str, object], reason: str) -> None:
    result = ask(answer, **options)
    assert not result.ok
    assert result.reason.startswith(reason)


def test_a_status_that_is_wanted_is_well_whatever_it_is() -> None:
    assert ask(b"HTTP/1.1 503 S\r\nContent-Length: 0\r\n\r\n", status=[503]).ok


def test_the_name_that_tls_asks_for() -> None:
    assert probe().tls_server_name() == "192.0.2.1"
    assert probe(host="www.example.org:8443").tls_server_name() == "www.example.org"
    assert probe("2001:db8::1", host="[2001:db8::2]:8443").tls_server_name() == "2001:db8::2"
    assert probe(host="a.example", tls={"server_name": "b.example"}).tls_server_name() == "b.example"


@pytest.mark.parametrize(
    "options",
    [
        {"path": "no-slash"},
        {"path": "/a b"},
        {"path": "/\r\nX: y"},
        {"method": "get"},
        {"host": "a\r\nb"},
        {"headers": {"A b": "c"}},
        {"headers": {"A": "b\r\nC: d"}},
        {"status": [99]},
        {"body_regex": "("},
        {"digest": "abc"},
        {"size_limit": -1},
        {"sise_limit": 1},
    ],
)
def test_options_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        HttpOptions.model_validate(options)
