"""`hawatch probe`: one probe, once."""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import trio
from pydantic import ValidationError

from hawatch.agent.runner import Outcome, run_probe
from hawatch.cli.probe_words import describe_options, parse_options, parse_port, parse_route, parse_target
from hawatch.config.durations import parse_duration
from hawatch.config.probes import complete_options
from hawatch.config.validation import describe
from hawatch.errors import ConfigError, UsageError
from hawatch.plugin import Attempt, Probe, Target
from hawatch.registry import is_built_in, probe_class, probe_entry_points
from hawatch.text import clean

EXIT_UP, EXIT_DOWN = 0, 1
TIMEOUT = "5s"
ROUTE_KEYS = ("source", "interface", "mark")
SCHEDULE_KEYS = frozenset({"type", "interval", "rise", "fall", "address"})
WIDTH = 100


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be done."""

    type: str
    probe: Probe
    timeout_ns: int
    as_json: bool


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = (
        'Values are typed as "key=value", tables as "tls.verify=false", lists as "a,b" or as JSON. '
        '"hawatch probe --list" names the probes, "hawatch probe TYPE --help" the options of one. '
        "Exit status: 0 up, 1 down, 2 usage."
    )
    parser.add_argument("--list", action="store_true", help="list the installed probes")
    _add_common(parser)
    parser.add_argument("type", nargs="?", metavar="TYPE", help="tcp, http, smtp ...")
    parser.add_argument(
        "rest", nargs=argparse.REMAINDER, metavar="ADDRESS[:PORT] [key=value ...]", help="whom, and how"
    )


def _add_common(parser: argparse.ArgumentParser) -> None:
    """Add what may stand before TYPE and after it."""
    parser.add_argument("--timeout", default=argparse.SUPPRESS, metavar="DURATION", help=f'"500ms"; default: {TIMEOUT}')
    parser.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON object")
    parser.add_argument(
        "--service", default=argparse.SUPPRESS, metavar="NAME", help="service that the probe is told of"
    )
    parser.add_argument("--group", default=argparse.SUPPRESS, metavar="NAME", help="group that the probe is told of")


def run(arguments: argparse.Namespace) -> int:
    """Run the probe; return 0 where the target is up, 1 where it is down."""
    if arguments.list:
        print("\n".join(list_probes()))
        return EXIT_UP
    if not arguments.type:
        raise UsageError('which probe? "hawatch probe --list" names them')
    found = probe_class(arguments.type)
    parser = argparse.ArgumentParser(prog=f"hawatch probe {arguments.type}", add_help=False)
    _add_common(parser)
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("address", nargs="?")
    parser.add_argument("words", nargs="*")
    given = parser.parse_intermixed_args(arguments.rest, argparse.Namespace(**vars(arguments)))
    if given.help:
        print("\n".join(help_lines(arguments.type, found)))
        return EXIT_UP
    request = make_request(found, vars(given))
    outcome = trio.run(run_probe, request.probe, Attempt(request.timeout_ns))
    print(json.dumps(as_json(request, outcome)) if request.as_json else "\n".join(as_lines(request, outcome)))
    return EXIT_UP if outcome.result.ok else EXIT_DOWN


def make_request(found: type[Probe], given: Mapping[str, object]) -> Request:
    """Return what was asked for; raise UsageError for what is not accepted."""
    if not given["address"]:
        raise UsageError("whom? ADDRESS[:PORT] is missing")
    address, port = parse_target(str(given["address"]))
    words = [str(word) for word in given["words"]]  # type: ignore[attr-defined]
    timeout_text = str(given.get("timeout", TIMEOUT))
    own = []
    way: dict[str, str] = {}
    for word in words:
        key, _, value = word.partition("=")
        if key in SCHEDULE_KEYS:
            raise UsageError(f'"{key}" belongs to the schedule of a configured probe, not to one run')
        if key == "timeout":
            timeout_text = value
        elif key == "port":
            port = parse_port(value)
        elif key in ROUTE_KEYS:
            way[key] = value
        else:
            own.append(word)
    port = choose_port(found, str(given["type"]), port)
    target = Target(address, port, str(given.get("service", "")), str(given.get("group", "")), parse_route(way))
    probe = make_probe(found, own, target)
    return Request(str(given["type"]), probe, parse_timeout(timeout_text), bool(given.get("json", False)))


def choose_port(found: type[Probe], probe_type: str, port: int | None) -> int | None:
    """Return the port to ask."""
    if not found.uses_port:
        if port is not None:
            raise UsageError(f"the probe {probe_type} asks no port")
        return None
    if port is None and found.default_port is None and not found.port_optional:
        raise UsageError(f"the probe {probe_type} needs a port: ADDRESS:PORT")
    return port or found.default_port


def make_probe(found: type[Probe], words: Sequence[str], target: Target) -> Probe:
    """Return the probe with its options; raise UsageError with every mistake in them."""
    tables = parse_options(words, found.options_type)
    try:
        options = complete_options(found, tables)
        if target.route and (why := found.no_route(options)):
            raise UsageError(f"{', '.join(ROUTE_KEYS)}: {why}")
        return found(options, target)
    except ValidationError as error:
        raise UsageError("\n".join(mistakes(error, tables, found))) from error
    except (ConfigError, UsageError):
        raise
    except Exception as error:
        raise UsageError(f"the probe cannot be made: {type(error).__name__}: {clean(str(error))}") from error


def mistakes(error: ValidationError, tables: Mapping[str, object], found: type[Probe]) -> Iterator[str]:
    """Yield a line for each mistake."""
    for detail in error.errors(include_url=False):
        finding = describe(detail, tables, found.options_type)
        key = ".".join(str(step) for step in finding.path)
        accepted = f"; accepted: {finding.accepted}" if finding.accepted else ""
        yield f"{key}: {finding.message}{accepted}" if key else f"{finding.message}{accepted}"


def parse_timeout(text: str) -> int:
    """Return nanoseconds; raise UsageError."""
    try:
        timeout_ns = parse_duration(text)
    except ValueError as error:
        raise UsageError(f'"{text}" is no timeout; accepted: {error}') from error
    if timeout_ns <= 0:
        raise UsageError("a timeout is longer than nothing")
    return timeout_ns


def latency_ms(outcome: Outcome) -> float:
    """Return how long the probe took."""
    return round((outcome.finished_ns - outcome.started_ns) / 1e6, 3)


def as_json(request: Request, outcome: Outcome) -> dict[str, object]:
    """Return the outcome for programs."""
    result, target = outcome.result, request.probe.target
    return {
        "type": request.type,
        "address": target.address,
        "port": target.port,
        "state": "up" if result.ok else "down",
        "latency_ms": latency_ms(outcome),
        "reason": result.reason,
        "detail": result.detail,
        "facts": dict(result.facts),
        "weight": result.weight,
    }


def as_lines(request: Request, outcome: Outcome) -> Iterator[str]:
    """Yield the outcome for people."""
    result, target = outcome.result, request.probe.target
    host = f"[{target.address}]" if ":" in target.address and target.port else target.address
    where = f"{host}:{target.port}" if target.port else host
    state = "up" if result.ok else "down"
    reason = f": {result.reason}" if result.reason else ""
    yield f"{request.type} {where}: {state} in {latency_ms(outcome):.1f} ms{reason}"
    if result.weight is not None:
        yield f"  weight {result.weight}"
    for name, number in sorted(result.facts.items()):
        yield f"  {name} {number}"
    for line in result.detail.splitlines():
        yield f"  {clean(line)}"


def list_probes() -> Iterator[str]:
    """Yield a line for each installed probe."""
    for name, entry_point in sorted(probe_entry_points().items()):
        try:
            text = summary(probe_class(name))
        except ConfigError as error:
            text = str(error)
        origin = "" if is_built_in(entry_point) or entry_point.dist is None else f" (from {entry_point.dist.name})"
        yield f"{name:8} {text}{origin}"


def summary(found: type[Probe]) -> str:
    """Return the first line of a probe's own description."""
    text = found.__doc__ if found.__doc__ and found.__doc__ != Probe.__doc__ else ""
    return text.strip().split("\n")[0] if text else ""


def help_lines(probe_type: str, found: type[Probe]) -> Iterator[str]:
    """Yield a description of a probe and its options."""
    port = "" if not found.uses_port else "[:PORT]" if found.default_port or found.port_optional else ":PORT"
    yield f"usage: hawatch probe {probe_type} ADDRESS{port} [key=value ...] [--timeout DURATION] [--json]"
    yield ""
    yield summary(found)
    if found.default_port:
        yield f"Default port: {found.default_port}."
    options = list(describe_options(found.options_type))
    if options:
        yield "\noptions:"
    for key, default, text in options:
        yield f"  {key}" + (f"  (default: {default})" if default not in ("", "required") else f"  {default}".rstrip())
        yield from textwrap.wrap(text, WIDTH, initial_indent="      ", subsequent_indent="      ")
