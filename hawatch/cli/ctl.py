"""`hawatch ctl`: look at and steer a running agent over its socket."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hawatch.cli.ctl_console import (
    add_console,
    add_events_arguments,
    console_answers,
    console_request,
    events_request,
    render_report,
)
from hawatch.control import protocol
from hawatch.control.client import Client, NoAgentError
from hawatch.control.protocol import ALL, EVENTS_COUNT_DEFAULT, EVENTS_COUNT_MAX, Done, EventLine, Progress, Refused
from hawatch.control.render import Style, render_changes, render_event, render_status
from hawatch.errors import UsageError

RUNTIME_DIR = "/run/hawatch"
WATCH_INTERVAL_S = 1.0
EXIT_DONE, EXIT_REFUSED, EXIT_UNAVAILABLE = 0, 1, 3

SIMPLE = {
    "undrain": (protocol.Undrain, "end a drain"),
    "disable": (protocol.Disable, "take a server out and keep it out, whatever its probes say"),
    "enable": (protocol.Enable, "end a disablement"),
}
PLAIN = {"reload": protocol.Reload, "giveaway": protocol.Giveaway, "resume": protocol.Resume}


@dataclass(frozen=True, slots=True)
class Screen:
    """Where and how a command prints."""

    style: Style
    json: bool

    def render_status(self, data: Any) -> str:
        """Return the status as text."""
        return render_status(data, self.style)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `hawatch ctl`."""
    parser.add_argument(
        "--runtime-dir",
        type=Path,
        default=Path(RUNTIME_DIR),
        metavar="DIR",
        help=f"the agent's; default: {RUNTIME_DIR}",
    )
    parser.epilog = (
        "Exit status: 0 done, 1 refused or failed (the reason is on standard error), 2 usage, 3 no agent answers."
    )
    commands = parser.add_subparsers(dest="ctl_command", metavar="COMMAND", required=True)

    def add(name: str, help_text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=help_text, description=help_text)
        command.add_argument("--json", action="store_true", help="print JSON for programs")
        return command

    status = add("status", "directors, links, quorum, groups, services, servers with reasons")
    status.add_argument("--watch", action="store_true", help="show it anew every second until ctrl-C")
    drain = add("drain", "weight 0: no new connections, the old ones go on")
    _add_server(drain)
    drain.add_argument("--wait", action="store_true", help="return when its connections are gone")
    drain.add_argument("--timeout", type=_duration_s, default=0.0, metavar="DURATION",
                       help='with --wait: no longer than so ("90s"); default: for ever')  # fmt: skip
    for name, (_, help_text) in SIMPLE.items():
        _add_server(add(name, help_text))
    events = add("events", "what happened, newest last")
    events.add_argument("--follow", "-f", action="store_true", help="go on with what comes, until ctrl-C")
    events.add_argument("-n", "--lines", type=_count, default=EVENTS_COUNT_DEFAULT, metavar="N",
                        help=f"how many; default: {EVENTS_COUNT_DEFAULT}")  # fmt: skip
    add_events_arguments(events)
    add_console(add)
    add("reload", "apply the configuration file: all of it or, with a mistake in it, nothing")
    _add_ownership(add)


def _add_ownership(add: Callable[[str, str], argparse.ArgumentParser]) -> None:
    switchover = add("switchover", "move ownership now; returns when the successor answers for it")
    switchover.add_argument("--group", default=ALL, metavar="G", help="one group instead of all")
    switchover.add_argument("--to", default="", metavar="NODE", help="the director to move to")
    takeover = add("takeover", "own a group without a majority: only when the others are known to be off")
    takeover.add_argument("--force", action="store_true", required=True, help="you know that the others are off")
    takeover.add_argument("--group", required=True, metavar="G", help="the group to own")
    add("giveaway", "give everything away and take nothing until resume")
    add("resume", "end a giveaway")


def _add_server(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("service", metavar="SERVICE", help=f'name of a service, or "{ALL}" for every one')
    parser.add_argument("server", metavar="SERVER", help=f'address or address:port of a server, or "{ALL}"')


def _count(text: str) -> int:
    if not (text.isdecimal() and len(text) <= len(str(EVENTS_COUNT_MAX)) and int(text) <= EVENTS_COUNT_MAX):
        raise argparse.ArgumentTypeError(f'"{text}" is no number from 0 to {EVENTS_COUNT_MAX}')
    return int(text)


def _duration_s(text: str) -> float:
    units = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
    for unit, seconds in units.items():
        number = text.removesuffix(unit)
        if number != text and number.replace(".", "", 1).isdecimal():
            return float(number) * seconds
    raise argparse.ArgumentTypeError(f'"{text}" is no duration; wanted a number with a unit: 500ms, 90s, 5m, 1h')


def run(arguments: argparse.Namespace) -> int:
    """Run one ctl command and return its exit status."""
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    width = shutil.get_terminal_size((100, 25)).columns if sys.stdout.isatty() else 0
    screen = Screen(Style(colour=colour, width=width), arguments.json)
    try:
        if console_answers(arguments):
            with Client(arguments.runtime_dir / "console.sock") as client:
                return _run(client, arguments, screen)
        with Client(arguments.runtime_dir / "ctl.sock") as client:
            return _run(client, arguments, screen)
    except NoAgentError as error:
        print(f"hawatch ctl: {error}", file=sys.stderr)
        return EXIT_UNAVAILABLE
    except UnicodeEncodeError as error:
        raise UsageError("an argument is no text in UTF-8: the terminal may use another encoding") from error


def _run(client: Client, arguments: argparse.Namespace, screen: Screen) -> int:
    name = arguments.ctl_command
    if name == "events":
        return _events(client, arguments, screen)
    if name == "status" and arguments.watch:
        return _watch(client, screen)
    if name == "report":
        return _ask(client, make_request(arguments), screen, render_report)
    render = render_changes if name != "status" else screen.render_status
    return _ask(client, make_request(arguments), screen, render)


def make_request(arguments: argparse.Namespace) -> protocol.Request:
    """Return the request that the arguments ask for."""
    match arguments.ctl_command:
        case "status":
            return protocol.Status()
        case "drain":
            if arguments.timeout and not arguments.wait:
                raise UsageError("--timeout is of use only with --wait")
            return protocol.Drain(
                service=arguments.service, server=arguments.server, wait=arguments.wait, timeout_s=arguments.timeout
            )
        case "events":
            return events_request(arguments)
        case "report" | "ack" | "alert-test":
            return console_request(arguments)
        case "switchover":
            return protocol.Switchover(group=arguments.group, to=arguments.to)
        case "takeover":
            return protocol.Takeover(group=arguments.group, force=arguments.force)
        case name if name in PLAIN:
            return PLAIN[name]()
        case name:
            return SIMPLE[name][0](service=arguments.service, server=arguments.server)


def _ask(client: Client, request: protocol.Request, screen: Screen, render: Callable[[Any], str]) -> int:
    for reply in client.ask(request):
        match reply:
            case Progress(text=text):
                print(text, file=sys.stderr, flush=True)
            case Refused():
                return _refused(reply, screen)
            case Done(data=data):
                print(bytes(data).decode() if screen.json else render(json.loads(bytes(data))), flush=True)
            case EventLine():
                pass
    return EXIT_DONE


def _refused(reply: Refused, screen: Screen) -> int:
    print(f"hawatch ctl: {reply.reason}", file=sys.stderr)
    for problem in reply.problems:
        print(f"  {problem}", file=sys.stderr)
    if screen.json:
        print(json.dumps({"refused": reply.reason, "problems": reply.problems}))
    return EXIT_REFUSED


def _watch(client: Client, screen: Screen) -> int:
    """Show the status again and again, in place on a terminal."""
    clear = "\x1b[H\x1b[J" if sys.stdout.isatty() and not screen.json else ""
    try:
        while True:
            print(clear, end="")
            status = _ask(client, protocol.Status(), screen, screen.render_status)
            if status != EXIT_DONE:
                return status
            if not clear and not screen.json:
                print()
            time.sleep(WATCH_INTERVAL_S)  # noqa: TID251 - a command line tool has nothing else to do
    except KeyboardInterrupt:
        return EXIT_DONE


def _events(client: Client, arguments: argparse.Namespace, screen: Screen) -> int:
    try:
        for reply in client.ask(make_request(arguments), patient=arguments.follow):
            match reply:
                case EventLine(data=data) if screen.json:
                    print(bytes(data).decode(), flush=True)
                case EventLine(data=data):
                    print(render_event(json.loads(bytes(data)), screen.style), flush=True)
                case Refused():
                    return _refused(reply, screen)
                case _:
                    pass
    except KeyboardInterrupt:
        pass
    return EXIT_DONE
