"""`hawatch check`: validate a configuration file, and say what it amounts to."""

from __future__ import annotations

import argparse
import json
import socket
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path as FilePath

from hawatch.config.files import check_files, check_group
from hawatch.config.load import Loaded, read_file
from hawatch.config.machine import clock_finding, clock_source
from hawatch.config.plan import checks_per_second, find_node, make_plan
from hawatch.config.probes import INSTALLED, ProbeTypes
from hawatch.config.problems import Problem
from hawatch.config.schema import Config
from hawatch.errors import ConfigError

DEFAULT_FILE = FilePath("/etc/hawatch/hawatch.toml")
EXIT_DONE, EXIT_MISTAKES = 0, 2


@dataclass(frozen=True, slots=True)
class Report:
    """What a file is found to be."""

    file: str
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...] = ()
    summary: tuple[tuple[str, int | float | str], ...] = ()

    @property
    def ok(self) -> bool:
        """Whether an agent would start with it."""
        return not self.problems


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "-c", "--config", type=FilePath, default=DEFAULT_FILE, metavar="FILE", help=f"default: {DEFAULT_FILE}"
    )
    parser.add_argument("--node", default="", metavar="NAME", help="check that this node is in it, and what it does")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.epilog = "Exit status: 0 an agent would start with it, 2 it has mistakes; every one is told."


def run(arguments: argparse.Namespace) -> int:
    """Check the file; return 0 where an agent would start with it, else 2."""
    report = examine(arguments.config, arguments.node, INSTALLED, clock_source())
    if arguments.json:
        print(json.dumps(as_json(report), indent=2))
    else:
        for line in as_lines(report):
            print(line, file=sys.stdout if report.ok else sys.stderr)
    return EXIT_DONE if report.ok else EXIT_MISTAKES


def examine(path: FilePath, node: str, probes: ProbeTypes, clock: str = "") -> Report:
    """Read a file and everything that it names; return what was found. `clock` is this machine's clock source."""
    try:
        loaded = read_file(path, probes)
    except ConfigError as error:
        problems = tuple(problem for problem in error.problems if isinstance(problem, Problem))
        return Report(str(path), problems or (Problem("", 1, "", "", str(error).removeprefix(f"{path}: ")),))
    document = loaded.document
    findings = (*check_files(loaded.config), *check_group(loaded.config))
    problems = tuple(document.problem(found.finding) for found in findings if not found.absent)
    warnings = (*loaded.warnings, *(document.problem(found.finding) for found in findings if found.absent))
    clock_problem = clock_finding(loaded.config, clock)
    if clock_problem is not None:
        warnings = (*warnings, document.problem(clock_problem))
    try:
        summary = summarize(loaded, node, probes)
    except ConfigError as error:
        problems = (*problems, Problem("director", document.line(("director",)), "", "", str(error)))
        summary = ()
    return Report(str(path), problems, warnings, summary)


def summarize(loaded: Loaded, node: str, probes: ProbeTypes) -> tuple[tuple[str, int | float | str], ...]:
    """Return what the configuration amounts to; raise ConfigError for a node that it does not name."""
    config = loaded.config
    # Only a node that was asked for must be in the file: it may be checked on any machine.
    name = find_node(config, node, socket.gethostname()) if node else first_director(config)
    plan = make_plan(config, name, probes)
    return (
        ("node", node),
        ("directors", len(config.director)),
        ("witnesses", len(config.witness)),
        ("groups", len(config.group)),
        ("addresses", sum(len(group.addresses) for group in config.group)),
        ("services", len(plan.services)),
        ("servers", sum(len(service.servers) for service in plan.services)),
        ("checks", len(plan.checks)),
        ("checks_per_second", round(checks_per_second(plan), 2)),
    )


def first_director(config: Config) -> str:
    """Return a node that has something to do."""
    return config.director[0].name if config.director else ""


def as_json(report: Report) -> dict[str, object]:
    """Return the report for programs."""
    return {
        "file": report.file,
        "ok": report.ok,
        "problems": [asdict(problem) for problem in report.problems],
        "warnings": [asdict(warning) for warning in report.warnings],
        "summary": dict(report.summary),
    }


def as_lines(report: Report) -> Iterator[str]:
    """Yield the report for people: problems and warnings with their lines in the file, then the sum."""
    for problem in report.problems:
        yield problem.at(report.file)
    for warning in report.warnings:
        yield f"{report.file}:{warning.line}: warning: {warning}"
    if not report.ok:
        yield f"{report.file}: {count(len(report.problems), 'mistake')}; nothing can be started with it"
        return
    numbers = dict(report.summary)
    parts = [
        count(int(numbers[key]), key.removesuffix("es" if key.endswith("sses") else "s"), key)
        for key in ("directors", "witnesses", "groups", "addresses", "services", "servers", "checks")
    ]
    yield f"{report.file}: valid; {', '.join(parts)} ({numbers['checks_per_second']:g}/s)"


def count(number: int, singular: str, plural: str = "") -> str:
    """Return a number with its noun."""
    return f"{number} {singular if number == 1 else plural or singular + 's'}"
