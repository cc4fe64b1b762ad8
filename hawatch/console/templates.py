"""Templates of messages: text with `$name` places (string.Template), the first line of which may be `Subject: ...`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from string import Template

SIZE_MAX = 65536
"""Bytes of a template file."""
SINGLE = """\
Subject: [$cluster] $what

$what

Reason:   $reason
Time:     $time
${lasted}Director: $node
${where}
$numbers
$state
$next
"""
DIGEST = """\
Subject: [$cluster] $what

$count things happened: $what

$lines
$next
"""
PLACES = {
    "single": frozenset({
        "cluster", "what", "reason", "time", "lasted", "node", "where", "numbers", "state", "next", "name", "severity",
        "group", "service", "server",
    }),
    "digest": frozenset({"cluster", "what", "node", "count", "lines", "next"}),
}  # fmt: skip
"""What each kind of template may name."""
BLANK_LINES = re.compile(r"\n{3,}")


@dataclass(frozen=True, slots=True)
class Templates:
    """The texts of messages; "" is the built-in one."""

    single: str = ""
    digest: str = ""


def problem_of(kind: str, text: str) -> str:
    """Return what is wrong with a template, "" for nothing."""
    if not text.strip():
        return "it is empty"
    for number, line in enumerate(text.splitlines(), 1):
        for match in Template.pattern.finditer(line):
            if match.group("invalid") is not None:
                return f'line {number}: a "$" without a name; "$$" is a dollar sign'
            name = match.group("named") or match.group("braced")
            if name and name not in PLACES[kind]:
                return f'line {number}: there is no "${name}"'
    return ""


def read_template(kind: str, data: bytes) -> str:
    """Return the text of a template file; raise ValueError with what is wrong with it."""
    if len(data) > SIZE_MAX:
        raise ValueError(f"it is longer than {SIZE_MAX} bytes")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8: {error.reason} at byte {error.start}") from None
    if problem := problem_of(kind, text):
        raise ValueError(problem)
    return text


def fill(text: str, values: Mapping[str, str]) -> tuple[str, str]:
    """Return subject ("" where the template has none) and body."""
    subject = ""
    if text.startswith("Subject:"):
        line, _, text = text.partition("\n")
        subject = Template(line.removeprefix("Subject:").strip()).safe_substitute(values)
    body = Template(text).safe_substitute(values)
    return subject, BLANK_LINES.sub("\n\n", body).strip("\n")
