"""Reading a configuration file: all of it or a report of every mistake in it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path as FilePath

import tomli

from hawatch.config.positions import DEPTH_MAX, Path, TooDeepError, find_positions
from hawatch.config.probes import INSTALLED, ProbeTypes
from hawatch.config.problems import Document, Finding, Problem
from hawatch.config.rules import find_errors, find_warnings
from hawatch.config.schema import Config
from hawatch.config.validation import Understood, understand
from hawatch.errors import ConfigError

FILE_BYTES_MAX = 1 << 20
"""Size of a configuration file: 100 services with 20 servers each take about 150 kB."""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""Some editors begin a file with it; TOML does not know it."""
PROBLEMS_SHOWN_MAX = 200
"""Problems that a report holds; a file with more is no configuration."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration without mistakes, and what is worth a warning in it."""

    config: Config
    warnings: tuple[Problem, ...]
    document: Document


def read_file(path: FilePath, probes: ProbeTypes = INSTALLED) -> Loaded:
    """Return the configuration in a file and its warnings; raise ConfigError with every mistake in it."""
    return read_bytes(read_content(path), str(path), probes)


def read_content(path: FilePath) -> bytes:
    """Return what is in a file, one byte more than is accepted at most; raise ConfigError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error


def load_text(text: str, name: str = "hawatch.toml", probes: ProbeTypes = INSTALLED) -> Config:
    """Return the configuration in a string; raise ConfigError with every mistake in it."""
    return read_bytes(text.encode(), name, probes).config


def read_bytes(data: bytes, name: str, probes: ProbeTypes = INSTALLED) -> Loaded:
    """Return the configuration in a file's content and its warnings; raise ConfigError with every mistake in it."""
    document = parse(data, name)
    understood = understand(dict(document.data))
    problems = [document.problem(finding) for finding in understood.findings]
    if understood.config is not None:
        for finding in find_errors(understood.config, probes):
            located = placed(finding, understood, document)
            if not understood.in_doubt(located):
                problems.append(document.problem(located))
    if problems:
        raise report(name, sorted(set(problems), key=lambda problem: (problem.line, problem.path, problem.message)))
    assert understood.config is not None
    warnings = sorted(map(document.problem, find_warnings(understood.config)), key=lambda problem: problem.line)
    return Loaded(understood.config, tuple(warnings), document)


def placed(finding: Finding, understood: Understood, document: Document) -> Finding:
    """Return a finding with its paths as they are in the file."""

    def place(path: Path) -> Path:
        return document.real_path(understood.path_in_file(path))

    return replace(finding, path=place(finding.path), depends=tuple(map(place, finding.depends)))


def report(name: str, problems: list[Problem]) -> ConfigError:
    """Return the error that tells all problems, one a line."""
    lines = [problem.at(name) for problem in problems[:PROBLEMS_SHOWN_MAX]]
    if len(problems) > PROBLEMS_SHOWN_MAX:
        lines.append(f"{name}: and {len(problems) - PROBLEMS_SHOWN_MAX} more")
    return ConfigError("\n".join(lines), tuple(problems[:PROBLEMS_SHOWN_MAX]))


def parse(data: bytes, name: str) -> Document:
    """Return the content of a TOML file with the lines of its keys; raise ConfigError for what is no TOML."""
    if len(data) > FILE_BYTES_MAX:
        raise report(name, [syntax_problem(1, 0, "the file is too large", f"at most {FILE_BYTES_MAX} bytes")])
    try:
        text = data.removeprefix(BYTE_ORDER_MARK).decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise report(name, [syntax_problem(line, 0, "a byte that is no UTF-8", "text in UTF-8")]) from error
    try:
        tables = tomli.loads(text)
        if depth(tables) > DEPTH_MAX:
            find_positions(text)  # tells where
        return Document(tables, partial(find_positions, text))
    except tomli.TOMLDecodeError as error:
        lines = text.count("\n") + 1
        line = min(getattr(error, "lineno", 1), lines)
        message = toml_message(re.sub(r" \(at .*\)$", "", str(error)))
        column = getattr(error, "colno", 0)
        raise report(name, [syntax_problem(line, column, f"not TOML: {message}", "")]) from error
    except TooDeepError as error:
        raise report(
            name, [syntax_problem(error.line, 0, "nested too deeply", f"at most {DEPTH_MAX} levels")]
        ) from error
    except (RecursionError, ValueError) as error:
        # tomli on nesting and on numbers beyond all measure: it says what, not where.
        raise report(name, [syntax_problem(1, 0, f"not acceptable: {error}", "")]) from error


def depth(value: object) -> int:
    """Return how deeply tables and arrays are nested in a value, this one included; `DEPTH_MAX` + 1 stands for more."""
    level, found = [value], 0
    while level and found <= DEPTH_MAX:
        level = [member for each in level for member in _members(each)]
        found += 1
    return found


def _members(value: object) -> Iterable[object]:
    match value:
        case dict():
            return value.values()
        case list():
            return value
        case _:
            return ()


def toml_message(message: str) -> str:
    """Return what the parser says, in words that tell an administrator what to do."""
    if twice := re.fullmatch(r"Cannot declare \('(.*)',\) twice", message):
        name = twice[1].replace("', '", ".")
        return f"the table {name} is there already; of several, each is [[{name}]]"
    return TOML_MESSAGES.get(message, message)


TOML_MESSAGES = {
    "Cannot overwrite a value": "this key is there already",
    "Invalid value": "no value: strings want quotes, true and false none",
    "Invalid statement": "neither [table], key = value nor # comment",
    "Illegal character '\\n'": "the string does not end on its line: a quote is missing",
}


def syntax_problem(line: int, column: int, message: str, accepted: str) -> Problem:
    """Return the problem of a file that cannot be read as TOML: it stands alone."""
    return Problem(path="", line=line, found="", accepted=accepted, message=message, column=column)
