"""The commands of `hawatch ctl` that the console answers: the journal, downtime, acknowledgements, a test of alerts."""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from hawatch.control import protocol
from hawatch.control.client import Client, NoAgentError

NS_PER_S = 1_000_000_000
UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
REPORT_DEFAULT = "30d"
FILTERS = ("since", "until", "group", "service", "server", "name", "severity")
SEVERITIES = ("info", "warning", "critical")


def instant_ns(text: str) -> int:
    """Return an instant in Unix nanoseconds: "90m" is so long ago, else a date with or without a time."""
    match = re.fullmatch(r"([0-9]{1,6})([smhdw])", text)
    if match is not None:
        return time.time_ns() - int(match.group(1)) * UNITS_S[match.group(2)] * NS_PER_S
    try:
        return int(datetime.fromisoformat(text).timestamp() * NS_PER_S)
    except (ValueError, OverflowError, OSError):
        raise argparse.ArgumentTypeError(
            f'"{text}" is no time; wanted how long ago (90m, 2h, 7d), or a date (2026-01-31, 2026-01-31T18:30)'
        ) from None


def add_events_arguments(events: argparse.ArgumentParser) -> None:
    """Add the filters of `events`."""
    _add_period(events, "")
    _add_choice(events)
    events.add_argument("--name", action="append", default=[], metavar="NAME", help="only events of this name; repeats")
    events.add_argument("--severity", choices=SEVERITIES, default="", help="only events of this severity or above")


def add_console(add: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """Add report, ack and alert-test."""
    report = add("report", "how often and how long servers, services and groups were down")
    _add_period(report, REPORT_DEFAULT)
    _add_choice(report)
    ack = add("ack", "you see to it: a failure is not told again until it is over")
    ack.add_argument("service", metavar="SERVICE", help=f'name of a service, or "{protocol.ALL}" for everything')
    ack.add_argument("server", metavar="SERVER", nargs="?", default="", help="address or address:port of a server")
    ack.add_argument("-m", "--message", default="", metavar="TEXT", help="what the others should know")
    test = add("alert-test", "send a test message, and say what became of it")
    test.add_argument("target", metavar="ALERT", nargs="?", default="", help="name of an alert, like ops or email/ops")


def _add_period(parser: argparse.ArgumentParser, default: str) -> None:
    since = f"default: {default}" if default else "default: all"
    parser.add_argument(
        "--since",
        type=instant_ns,
        default=default or 0,
        metavar="TIME",
        help=f"from then on: so long ago (90m, 2h, 7d), or a date (2026-01-31T18:30); {since}",
    )
    parser.add_argument("--until", type=instant_ns, default=0, metavar="TIME", help="until then, likewise")


def _add_choice(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--group", default="", metavar="G", help="only this group")
    parser.add_argument("--service", default="", metavar="S", help="only this service")
    parser.add_argument("--server", default="", metavar="ADDRESS", help="only this server")


def console_answers(arguments: argparse.Namespace) -> bool:
    """Tell whether a command is for the console: a question to the journal is, if it can be asked there."""
    if arguments.ctl_command in ("report", "ack", "alert-test"):
        return True
    if arguments.ctl_command != "events" or arguments.follow:
        return False
    if not any(getattr(arguments, name) for name in FILTERS):
        return False
    try:
        Client(arguments.runtime_dir / "console.sock").__exit__(None, None, None)
    except NoAgentError:
        return False  # the core knows the newest
    return True


def events_request(arguments: argparse.Namespace) -> protocol.Events:
    """Return the request of `events`."""
    return protocol.Events(
        count=arguments.lines,
        follow=arguments.follow,
        since_ns=arguments.since,
        until_ns=arguments.until,
        group=arguments.group,
        service=arguments.service,
        server=arguments.server,
        names=tuple(arguments.name),
        severity=arguments.severity,
    )


def console_request(arguments: argparse.Namespace) -> protocol.Request:
    """Return the request of a command that only the console answers."""
    if arguments.ctl_command == "report":
        return protocol.Report(
            since_ns=arguments.since,
            until_ns=arguments.until,
            group=arguments.group,
            service=arguments.service,
            server=arguments.server,
        )
    if arguments.ctl_command == "ack":
        return protocol.Ack(service=arguments.service, server=arguments.server, text=arguments.message)
    return protocol.AlertTest(target=arguments.target)


def render_report(data: Any) -> str:
    """Return a report as a table."""
    rows = [("", "outages", "down", "longest", "available", "")]
    for line in data["lines"]:
        what = " ".join(word for word in (line["kind"], line["group"] if line["kind"] == "group" else "",
                                          line["service"], line["server"]) if word)  # fmt: skip
        now = "DOWN NOW" if line["down_now"] else ""
        share = f"{line['availability'] * 100:.3f} %"
        rows.append((what, str(line["outages"]), _length(line["down_s"]), _length(line["longest_s"]), share, now))
    if len(rows) == 1:
        return "the journal tells of no outage in this time"
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        row[0].ljust(widths[0]) + "".join("  " + row[column].rjust(widths[column]) for column in range(1, 6))
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def _length(seconds: float) -> str:
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"
