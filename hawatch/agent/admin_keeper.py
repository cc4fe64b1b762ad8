"""What an administrator said, as the core has it: in memory, and in its file through a thread, one save at a time.

Whoever changes what was said of servers, or the names of services, holds `lock` from the look at `state` to the end:
two saves at once would write into one scratch file, and one would undo what the other has said.
"""

from __future__ import annotations

from pathlib import Path

import trio

from hawatch.agent.ownership import Emit
from hawatch.agent.state import AdminState, follow_renames, load_admin, save_admin
from hawatch.errors import RefusedError
from hawatch.model import Event, Plan, Severity


class AdminKeeper:
    """Keeps the words of the administrator."""

    def __init__(self, path: Path, plan: Plan, emit: Emit) -> None:
        loaded, self.problem = load_admin(path)
        self.state, _ = follow_renames(loaded, plan)
        self.lock = trio.Lock()
        self._path = path
        self._emit = emit
        self._moved = trio.Event()
        """Set while the file is behind."""
        if self.state.to_file() != loaded.to_file():
            self._moved.set()

    async def run(self) -> None:
        """Write down what has changed without a command that waits, until cancelled."""
        if self.problem:
            self._emit([Event("state_broken", self.problem, Severity.WARNING)])
        while True:
            await self._moved.wait()
            await self.settle()

    async def say(self, state: AdminState, plan: Plan) -> None:
        """Write down a state and go on by it; raise RefusedError if it cannot be written. `lock` must be held."""
        state.locate(plan)
        try:
            await trio.to_thread.run_sync(save_admin, self._path, state.to_file())
        except OSError as error:
            reason = f"{self._path} cannot be written ({error.strerror}): nothing was changed, for it would not survive"
            raise RefusedError(reason) from error
        state.gaveaway = self.state.gaveaway  # said meanwhile, it is still to be written
        self.state = state
        self.problem = ""

    def follow(self, plan: Plan) -> list[str]:
        """Go on by the names of a new plan; return a sentence for each that has changed. `lock` must be held."""
        before = self.state.to_file()
        self.state, told = follow_renames(self.state, plan)
        if self.state.to_file() != before:
            self._moved.set()
        return told

    def remember_giveaway(self, paused: bool) -> None:  # noqa: FBT001 - a callback
        """Note whether everything was given away; it is written down soon."""
        self.state.gaveaway = paused
        self._moved.set()

    async def settle(self) -> None:
        """Return when the file is as the state is, or cannot be: that is told."""
        async with self.lock:
            if not self._moved.is_set():
                return
            self._moved = trio.Event()
            try:
                await trio.to_thread.run_sync(save_admin, self._path, self.state.to_file())
            except OSError as error:
                what = "a restart forgets the giveaway, or what was drained or disabled under another service's name"
                self.problem = f"{self._path} cannot be written ({error.strerror}): {what}"
                self._emit([Event("state_broken", self.problem, Severity.WARNING)])
            else:
                self.problem = ""
