"""`hawatch top`: the site at a glance on a terminal, fresh every second."""

from __future__ import annotations

import argparse
import contextlib
import curses
import locale
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from hawatch.control import protocol
from hawatch.control.client import Client, NoAgentError
from hawatch.control.protocol import Done, Refused
from hawatch.control.table import WORDS_MAX, Choice, Line, Order, screen, scrolled, whole
from hawatch.control.view import Tone, View, read_view
from hawatch.errors import HawatchError, PeerError, RefusedError, UsageError

RUNTIME_DIR = "/run/hawatch"
REFRESH_S = 1.0
COLOURS = {Tone.GOOD: curses.COLOR_GREEN, Tone.WARN: curses.COLOR_YELLOW, Tone.BAD: curses.COLOR_RED}
SCROLLS = {curses.KEY_UP: -1, curses.KEY_DOWN: 1, ord("k"): -1, ord("j"): 1, curses.KEY_PPAGE: -10, ord(" "): 10,
           curses.KEY_NPAGE: 10, curses.KEY_HOME: -100_000, curses.KEY_END: 100_000}  # fmt: skip
REDRAW = 12
"""Control-L: what else was written on the terminal goes."""
ESCAPE = 27
ERASES = (curses.KEY_BACKSPACE, 8, 127)
EXIT_UNAVAILABLE = 3


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `hawatch top`."""
    parser.add_argument(
        "--runtime-dir", type=Path, default=Path(RUNTIME_DIR), metavar="DIR", help="the agent's; default: /run/hawatch"
    )
    parser.add_argument("--once", action="store_true", help="print once, whole, and end: for scripts and pipes")
    parser.add_argument("--sort", choices=[str(order) for order in Order], default="service", help="order of servers")
    parser.add_argument("--down", action="store_true", help="only servers that are not up")
    parser.add_argument("--find", default="", metavar="WORDS", help="only servers with this in a name, state or reason")


def run(arguments: argparse.Namespace) -> int:
    """Show the site until q, or once."""
    choice = Choice(order=Order(arguments.sort), troubled=arguments.down, words=arguments.find[:WORDS_MAX])
    path = arguments.runtime_dir / "ctl.sock"
    try:
        first = fetch(path)
    except NoAgentError as error:
        print(f"hawatch top: {error}", file=sys.stderr)
        return EXIT_UNAVAILABLE
    if arguments.once:
        print("\n".join(whole(first, choice, datetime.now(UTC))))
        return 0
    if not sys.stdout.isatty() or not sys.stdin.isatty():
        raise UsageError("this is no terminal; --once prints once")
    with contextlib.suppress(locale.Error):  # ssh brought along one that this machine does not have
        locale.setlocale(locale.LC_ALL, "")
    try:
        curses.setupterm()
    except curses.error:
        name = os.environ.get("TERM", "")
        raise UsageError(f'this machine does not know the terminal "{name}"; TERM=xterm does for most') from None
    os.environ.setdefault("ESCDELAY", "50")  # a key of its own here, not only the beginning of one
    with contextlib.suppress(KeyboardInterrupt):
        curses.wrapper(show, path, first, choice)
    return 0


def fetch(path: Path) -> View:
    """Return what the agent knows now; raise a HawatchError when it does not answer."""
    with Client(path) as client:
        for reply in client.ask(protocol.Status()):
            match reply:
                case Refused(reason=reason):
                    raise RefusedError(reason)
                case Done(data=data):
                    view = read_view(bytes(data))
                    if view is not None:
                        return view
                case _:
                    pass
    raise PeerError("the agent's status is not one that this hawatch knows")


def show(window: curses.window, path: Path, view: View, choice: Choice) -> None:
    """Draw again and again until q."""
    with contextlib.suppress(curses.error):
        curses.curs_set(0)
    colours = dict(make_colours())
    lost, due, typing = "", time.monotonic() + REFRESH_S, False
    while True:
        rows, columns = window.getmaxyx()
        draw(window, screen(view, choice, (columns, rows), datetime.now(UTC), lost, typing=typing), colours)
        window.timeout(max(0, int((due - time.monotonic()) * 1000)))
        key = window.getch()
        if key in (REDRAW, curses.KEY_RESIZE):
            window.clear()
        if typing:
            choice, typing = typed(key, choice)
        elif key in (ord("q"), ord("Q"), ESCAPE):
            return
        elif key == ord("/"):
            typing = True
        else:
            choice = obey(key, choice, view)
        if time.monotonic() >= due:
            due = time.monotonic() + REFRESH_S
            try:
                view, lost = fetch(path), ""
            except HawatchError as error:
                lost = str(error)


def obey(key: int, choice: Choice, view: View) -> Choice:
    """Return the choice after a key."""
    if key == ord("s"):
        return choice.turned()
    if key == ord("d"):
        return replace(choice, troubled=not choice.troubled, offset=0)
    if key in SCROLLS:
        return scrolled(choice, SCROLLS[key], view, datetime.now(UTC))
    return choice  # none, a resize, or one that means nothing


def typed(key: int, choice: Choice) -> tuple[Choice, bool]:
    """Return the choice after a key of what is looked for, and whether more may come."""
    words = choice.words
    if key in (ord("\n"), ord("\r"), curses.KEY_ENTER):
        return choice, False
    if key == ESCAPE:
        return replace(choice, words="", offset=0), False
    if key in ERASES:
        words = words[:-1]
    elif ord(" ") <= key <= ord("~") and len(words) < WORDS_MAX:
        words += chr(key)
    return (replace(choice, words=words, offset=0) if words != choice.words else choice), True


def make_colours() -> Iterator[tuple[Tone, int]]:
    """Yield an attribute for each tone, where the terminal has colours and nobody minds them."""
    if not curses.has_colors():
        return
    curses.use_default_colors()
    if os.environ.get("NO_COLOR"):
        return
    for number, (tone, colour) in enumerate(COLOURS.items(), 1):
        curses.init_pair(number, colour, -1)
        yield tone, curses.color_pair(number)


def draw(window: curses.window, lines: list[Line], colours: dict[Tone, int]) -> None:
    """Put lines on the screen."""
    window.erase()
    for row, line in enumerate(lines):
        attribute = colours.get(line.tone, curses.A_NORMAL) | (curses.A_BOLD if line.strong else 0)
        with contextlib.suppress(curses.error):  # the last cell of the screen, or a window that has just shrunk
            window.addstr(row, 0, line.text, attribute)
    window.refresh()
