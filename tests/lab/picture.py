"""Record a command's output on a terminal as an animated SVG: `make picture` makes docs/demo.svg by

    python -m tests.lab.picture docs/demo.svg -- make --silent demo

Lines appear when they were printed, long waits shortened; a viewer that does not animate shows the end. Colours are
kept. No program and no package is needed for it.
"""

from __future__ import annotations

import argparse
import os
import pty
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from html import escape
from pathlib import Path

COLUMNS, ROWS = 132, 38
LINE_PX, CHARACTER_PX, MARGIN_PX = 17, 7.83, 14
WAIT_LIMIT_S = 1.2
"""A longer wait between two lines is shown as this."""
LINE_S = 0.06
"""A line is shown at least so long before the next: lines printed at once can still be followed."""
END_S = 12.0
LINES_LIMIT = 2000
GUEST_ENDS = "Powering off."
"""From here on the guest speaks, not the command; a machine with IPVS of its own needs no guest."""
COLOURS = {"31": "#ff6b68", "32": "#5fd787", "33": "#e5c07b", "36": "#5fd7ff"}
ESCAPE = re.compile(r"\x1b\[([0-9;]*)m")
STYLE = "text{font:13px/1 'DejaVu Sans Mono',Menlo,Consolas,monospace;white-space:pre;fill:#d4d4d4}"

STILL = "@media(prefers-reduced-motion:reduce){text,#all{animation:none!important}}"


@dataclass(frozen=True, slots=True)
class Line:
    """A line of output and when it came, in seconds from the start."""

    at_s: float
    text: str


def record(argv: list[str]) -> tuple[list[Line], int]:
    """Run a command on a terminal; return its lines and its exit status."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs)
    os.close(theirs)
    start = time.monotonic()
    lines: list[Line] = []
    rest = b""
    while len(lines) < LINES_LIMIT:
        try:
            data = os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
        if not data:
            break
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
        *whole, rest = (rest + data).split(b"\n")
        now = time.monotonic() - start
        lines += [Line(now, line.decode("utf-8", "replace").rstrip("\r")) for line in whole]
    os.close(ours)
    return lines, process.wait()


def shorten(lines: list[Line]) -> list[Line]:
    """Return the lines with waits cut and bursts spread."""
    shown: list[Line] = []
    clock = last = 0.0
    for line in lines:
        if line.text == GUEST_ENDS:
            break
        clock += min(max(line.at_s - last, LINE_S), WAIT_LIMIT_S)
        last = line.at_s
        shown.append(Line(clock, line.text))
    return shown


def spans(text: str) -> str:
    """Return a line's text as SVG spans."""
    parts: list[str] = []
    style = ""
    for index, piece in enumerate(ESCAPE.split(text)):
        if index % 2:
            codes = piece.split(";")
            colour = next((COLOURS[code] for code in codes if code in COLOURS), "#8a8a8a" if "2" in codes else "")
            style = (f' fill="{colour}"' if colour else "") + (' font-weight="bold"' if "1" in codes else "")
        elif piece:
            parts.append(f"<tspan{style}>{escape(piece)}</tspan>" if style else escape(piece))
    return "".join(parts)


def cut(text: str) -> str:
    """Return a line no longer than the window; escape sequences do not count."""
    plain = ESCAPE.sub("", text)
    return text if len(plain) <= COLUMNS else plain[: COLUMNS - 1] + "…"


def draw(lines: list[Line], title: str) -> str:
    """Return the SVG."""
    total_s = lines[-1].at_s + END_S
    width, height = COLUMNS * CHARACTER_PX + 2 * MARGIN_PX, ROWS * LINE_PX + 2 * MARGIN_PX + 24
    steps, rows = [], []
    for number, line in enumerate(lines):
        offset = -max(0, number + 1 - ROWS) * LINE_PX
        percent = line.at_s / total_s * 100
        steps.append(f"{percent:.3f}%{{transform:translateY({offset}px)}}")
        if cut(line.text).strip():
            shown = f'style="animation:s{number} {total_s:.1f}s step-end infinite"'
            rows.append(f'<text y="{(number + 1) * LINE_PX}" {shown}>{spans(cut(line.text))}</text>')
    appear = "".join(
        f"@keyframes s{number}{{0%{{opacity:0}}{line.at_s / total_s * 100:.3f}%,100%{{opacity:1}}}}"
        for number, line in enumerate(lines)
        if line.text.strip()
    )
    end = -max(0, len(lines) - ROWS) * LINE_PX
    scroll = f"@keyframes scroll{{0%{{transform:translateY(0)}}{''.join(steps)}100%{{transform:translateY({end}px)}}}}"
    move = f"#all{{transform:translateY({end}px);animation:scroll {total_s:.1f}s step-end infinite}}"
    return f"""<svg xmlns="http://www.w3.org/2000/svg" xml:space="preserve" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}">
<title>{escape(title)}</title>
<style>{STYLE}{appear}{scroll}{move}{STILL}</style>
<rect width="100%" height="100%" rx="8" fill="#1b1d23"/>
<text x="{MARGIN_PX}" y="22" fill="#8a8a8a">$ {escape(title)}</text>
<svg x="{MARGIN_PX}" y="{MARGIN_PX + 20}" width="{width - 2 * MARGIN_PX:.0f}" height="{ROWS * LINE_PX + 4}">
<g id="all">
{chr(10).join(rows)}
</g></svg></svg>
"""


def main() -> int:
    """Record and draw."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab.picture", description=__doc__.split("\n")[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--title", default="make demo")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    lines, status = record(command)
    if status == 0:
        arguments.output.write_text(draw(shorten(lines), arguments.title), encoding="utf-8")
    else:
        print(f"not drawn: the command ended with status {status}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
