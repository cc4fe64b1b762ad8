"""A problem in one line: where, what, what was found and what is accepted."""

from __future__ import annotations

import datetime

import pytest

from hawatch.config.problems import Document, Finding, Problem, nearest, quote, show_value


@pytest.mark.parametrize(
    ("problem", "line"),
    [
        (Problem("a.b", 3, "1", "2", "wrong"), "f:3: a.b: wrong; found 1; accepted: 2"),
        (Problem("a.b", 3, "", "", "wrong"), "f:3: a.b: wrong"),
        (Problem("", 3, "", "", "not TOML", column=7), "f:3:7: not TOML"),
    ],
)
def test_in_one_line(problem, line):
    assert problem.at("f") == line


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (True, "true"), ("x", '"x"'), (5, "5"), (1.5, "1.5"), ([1, 2], "an array of 2"), ({"a": 1}, "a table"),
        (datetime.date(2026, 1, 2), "2026-01-02"), ("a" * 100, '"' + "a" * 57 + '..."'), ("a\nb\x1b", '"a\\nb\\x1b"'),
        (1 << 5000, "a number of 5001 bits"),
    ],
)  # fmt: skip
def test_values(value, shown):
    assert show_value(value) == shown


def test_nothing_in_a_string_reaches_the_terminal_raw():
    assert quote("\x1b]0;x\x07\u202e").isprintable()


@pytest.mark.parametrize(("word", "hint"), [("timout", '; did you mean "timeout"?'), ("zzz", "")])
def test_hints(word, hint):
    assert nearest(word, ["timeout", "interval"]) == hint


DOCUMENT = Document(
    {"service": [{"name": "http", "probe": {"type": "tcp", "password": "x", "headers": {"A": "b"}}}, {"a b": 1}]},
    lambda: {(): 1, ("service",): 2, ("service", 0): 2, ("service", 0, "probe"): 3, ("service", 0, "probe", "type"): 4},
)


@pytest.mark.parametrize(
    ("path", "shown", "line", "found"),
    [
        (("service", 0, "probe", 0, "type"), 'service[1] "http".probe.type', 4, '"tcp"'),
        (("service", 0, "probe", 0, "timeout"), 'service[1] "http".probe.timeout', 3, ""),
        (("service", 0, "probe", 0, "password"), 'service[1] "http".probe.password', 3, "(not shown)"),
        (("service", 0, "probe", 0, "headers", "A"), 'service[1] "http".probe.headers.A', 3, "(not shown)"),
        (("service", 1, "a b"), 'service[2]."a b"', 2, "1"),
        (("cluster", "name"), "cluster.name", 1, ""),
    ],
)
def test_places(path, shown, line, found):
    problem = DOCUMENT.problem(Finding(path, "wrong"))
    assert (problem.path, problem.line, problem.found) == (shown, line, found)
