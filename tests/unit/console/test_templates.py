"""Templates: what is wrong with one is said before it is needed, and etc/ has what is built in."""

from __future__ import annotations

from pathlib import Path

import pytest

from hawatch.console.templates import DIGEST, PLACES, SINGLE, SIZE_MAX, fill, problem_of, read_template

ETC = Path(__file__).resolve().parents[3] / "etc/mail"


def test_etc_has_the_built_in_ones():
    assert (ETC / "single.txt").read_text() == SINGLE
    assert (ETC / "digest.txt").read_text() == DIGEST
    assert problem_of("single", SINGLE) == problem_of("digest", DIGEST) == ""


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "empty"),
        ("a\n$reson", 'line 2: there is no "$reson"'),
        ("${lines}", 'there is no "$lines"'),
        ("costs $5", 'a "$" without a name'),
        ("Subject: $nothing\n\nx", 'line 1: there is no "$nothing"'),
        ("$$5 $reason ${time}", ""),
    ],
)
def test_problems(text, problem):
    found = problem_of("single", text)
    assert problem in found
    assert bool(found) is bool(problem)


def test_files():
    assert read_template("digest", b"$count") == "$count"
    for data, problem in ((b"x" * (SIZE_MAX + 1), "longer"), (b"\xff", "UTF-8"), (b"$x", "no .\\$x")):
        with pytest.raises(ValueError, match=problem):
            read_template("digest", data)


def test_filled():
    values = dict.fromkeys(PLACES["single"], "v")
    assert fill("Subject: $what!\n\na $reason\n\n\n\nb\n", values) == ("v!", "a v\n\nb")
    assert fill("only $time", values) == ("", "only v")
