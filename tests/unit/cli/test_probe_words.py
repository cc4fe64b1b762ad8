from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field

from hawatch.cli.probe_words import describe_options, parse_options, parse_route, parse_target
from hawatch.errors import UsageError
from hawatch.model import Route


class Inner(BaseModel):
    verify: bool = True


class Model(BaseModel):
    text: str = "x"
    number: int | None = None
    mode: Literal["a", "b"] = "a"
    words: tuple[Annotated[str, Field(max_length=9)], ...] = ()
    statuses: Annotated[list[int], Field(max_length=9)] = Field(default=[200], description="which")
    either: str | tuple[str, ...] = ""
    headers: Mapping[str, str] = Field(default_factory=dict)
    tls: Inner = Field(default_factory=Inner)
    needed: str


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("192.0.2.1", ("192.0.2.1", None)),
        ("192.0.2.1:25", ("192.0.2.1", 25)),
        ("::1", ("::1", None)),
        ("[::1]", ("::1", None)),
        ("[::1]:25", ("::1", 25)),
        ("fe80::1%eth0", ("fe80::1%eth0", None)),
        ("2001:db8::25", ("2001:db8::25", None)),
    ],
)
def test_targets(text: str, target: tuple[str, int | None]) -> None:
    assert parse_target(text) == target


@pytest.mark.parametrize("text", ["", "mail", "[::1", "[::1]25", "1.2.3.4:0", "1.2.3.4:x", "1.2.3.4:²", "[1.2.3]:4"])
def test_no_targets(text: str) -> None:
    with pytest.raises(UsageError):
        parse_target(text)


def test_values_are_parsed_by_their_options() -> None:
    words = [
        "text=a,b=c",
        "number=5",
        "words=a,b",
        "statuses=[200, 204]",
        "either=a,b",
        "headers.X-A=1",
        "headers.X.B=2",
        "tls.verify=false",
        "unknown.key=1",
    ]
    assert parse_options(words, Model) == {
        "text": "a,b=c",
        "number": "5",
        "words": ["a", "b"],
        "statuses": [200, 204],
        "either": "a,b",
        "headers": {"X-A": "1", "X.B": "2"},
        "tls": {"verify": "false"},
        "unknown.key": "1",
    }


def test_tables_as_json() -> None:
    assert parse_options(['headers={"A": "1"}'], Model) == {"headers": {"A": "1"}}
    assert parse_options(["text={x}"], Model) == {"text": "{x}"}


@pytest.mark.parametrize("words", [["text"], ["=x"], ["text=a", "text=b"], ["tls=x", "tls.verify=no"], ["words=[a"]])
def test_words_refused(words: list[str]) -> None:
    with pytest.raises(UsageError):
        parse_options(words, Model)


def test_description() -> None:
    assert list(describe_options(Model)) == [
        ("text=text", "x", ""),
        ("number=number", "", ""),
        ("mode=a|b", "a", ""),
        ("words=a,b,...", "", ""),
        ("statuses=a,b,...", "200", "which"),
        ("either=text|a,b,...", "", ""),
        ("headers.NAME=text", "", ""),
        ("tls.verify=true|false", "true", ""),
        ("needed=text", "required", ""),
    ]


def test_ways() -> None:
    assert parse_route({}) is None
    assert parse_route({"mark": "7", "source": "192.0.2.1,2001:DB8::1", "interface": "eth0"}) == Route(
        ("192.0.2.1", "2001:db8::1"), "eth0", 7
    )
    for way in ({"mark": "x"}, {"mark": "4294967296"}, {"source": "eth0"}):
        with pytest.raises(UsageError):
            parse_route(way)
