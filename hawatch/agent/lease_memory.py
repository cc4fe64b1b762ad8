"""What a node of the cluster keeps on disk from process to process: boot number, list of members, what people chose.

Theory of operation. The files are small, read once, at the start, and written by threads (`kept_file`). Others must
not hear of a list of members or of a lease that the next process of this node would not know of: so when those have
changed, the file is written before the first datagram leaves. Everything else may be late by any time.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import trio

from hawatch.agent.kept_file import KeptFile
from hawatch.agent.places import Places
from hawatch.agent.words_file import read_words, write_text, write_words
from hawatch.cluster.membership import FormerRun
from hawatch.cluster.parameters import LEASE_NS_MAX, in_units

BOOT_DIGITS_MAX = 20
BOOT_MAX = 1 << 61
RUN_FILE = "members"
"""In the state directory: what the next process must know of this one's list of members and lease."""
RUN_CHARACTERS_MAX = 100
SETTLED = "settled"
PINS_FILE = "pinned"
"""In the state directory: the groups that an administrator gave to this director."""
FORCED = "!"
"""Follows a group's name that is owned without a majority, because an administrator said so."""
FIRST_WRITE_S = 5.0
"""So long the first datagram waits for the disk at most."""


class Pins(NamedTuple):
    """What administrators chose."""

    groups: tuple[str, ...]
    """They gave these to this director."""
    forced: tuple[str, ...] = ()
    """And these without a majority."""


class LeaseMemory:
    """One node's files; `tell` tells people what is wrong with them, `again_s` is when what failed is tried again."""

    def __init__(self, places: Places, tell: Callable[[str], None], again_s: float) -> None:
        self._tell = tell
        self._boot_path = places.boot_file
        self._run_path, self._pins_path = places.state_dir / RUN_FILE, places.state_dir / PINS_FILE
        self._former: FormerRun | None = None
        self._boot = KeptFile[int](lambda boot: write_boot(self._boot_path, boot), tell, again_s)
        self._run = KeptFile[FormerRun](lambda run: write_run(self._run_path, run), tell, again_s)
        self._pins = KeptFile[Pins](lambda pins: write_pins(self._pins_path, pins), tell, again_s)

    async def run(self) -> None:
        """Write what is to be kept, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._boot.run)
            nursery.start_soon(self._run.run)
            nursery.start_soon(self._pins.run)

    def former(self) -> FormerRun | None:
        """Return what the former process kept, None at the node's first start; tell where that is not known."""
        self._former, problem = read_run(self._run_path, began=last_boot(self._boot_path) is not None)
        if problem:
            self._tell(problem)
        return self._former

    def next_boot(self, wall_ns: int) -> int:
        """Return a number higher than at every earlier start.

        The wall clock makes it higher even where the file is lost; the file, where the clock went back.
        """
        return min(max(wall_ns, (last_boot(self._boot_path) or 0) + 1, 1), BOOT_MAX)

    def pins(self) -> Pins:
        """Return what administrators chose; nothing where the file cannot be read."""
        return read_pins(self._pins_path)

    async def begin(self, boot: int, run: FormerRun) -> None:
        """Keep what this process starts with; when it differs from what the former one kept, wait for the disk."""
        self._run.keep(run)
        if run != self._former:
            await self._run.wait(FIRST_WRITE_S)
        self._boot.keep(boot)

    def keep_run(self, run: FormerRun) -> None:
        """Keep it soon."""
        self._run.keep(run)

    def keep_pins(self, groups: tuple[str, ...], forced: tuple[str, ...]) -> None:
        """Keep them soon."""
        self._pins.keep(Pins(groups, forced))

    async def wait_pins(self, limit_s: float) -> None:
        """Wait until the pins are on disk, at most so long."""
        await self._pins.wait(limit_s)


def read_pins(path: Path) -> Pins:
    """Return what administrators chose; nothing where the file cannot be read."""
    words = read_words(path)
    forced = {word.removesuffix(FORCED) for word in words if word.endswith(FORCED)}
    return Pins(tuple(sorted({word for word in words if not word.endswith(FORCED)} | forced)), tuple(sorted(forced)))


def write_pins(path: Path, pins: Pins) -> str:
    """Keep them; return a sentence if that cannot be done, else ""."""
    problem = write_words(path, [*pins.groups, *(group + FORCED for group in pins.forced)])
    return f"{problem}: after a restart groups fall back to their preferred director" if problem else ""


def read_run(path: Path, *, began: bool) -> tuple[FormerRun | None, str]:
    """Return what a former process kept, and what is wrong with that.

    None only at the first start of a node: there is no file, and no process of it ever `began`. A file that is lost, or
    is none, may have held anything.
    """
    try:
        words = path.read_text("ascii")[:RUN_CHARACTERS_MAX].split()
        return FormerRun(int(words[0]), min(max(0, int(words[1])), LEASE_NS_MAX), settled=words[2] == SETTLED), ""
    except FileNotFoundError:
        if not began:
            return None, ""
        problem = "is missing"
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
    except (ValueError, IndexError):
        problem = "is broken"
    return FormerRun(0, LEASE_NS_MAX, settled=False), (
        f"{path} {problem}: what this node promised before is not known, so it promises nothing until every member has"
        f" been seen, and for {in_units(LEASE_NS_MAX)} more"
    )


def write_run(path: Path, run: FormerRun) -> str:
    """Keep it; return a sentence if that cannot be done, else ""."""
    problem = write_text(path, f"{run.members} {run.lease_ns} {SETTLED if run.settled else 'changing'}\n")
    return f"{problem}: stop all nodes before you change the members or the lease" if problem else ""


def last_boot(path: Path) -> int | None:
    """Return the number of the last start, 0 where it cannot be read, None where there was none."""
    try:
        return int(path.read_text("ascii")[:BOOT_DIGITS_MAX])
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return 0


def write_boot(path: Path, boot: int) -> str:
    """Keep it; return a sentence if that cannot be done, else ""."""
    problem = write_text(path, f"{boot}\n")
    return f"{problem}: keep the machine's clock right until it can" if problem else ""
