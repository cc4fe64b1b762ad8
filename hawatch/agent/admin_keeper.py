"""What an administrator said, as the core has it: in memory, and in its file through a thread, one save at a time.

Whoever changes what was said of servers, or the names of services, holds `lock` from the look at `state` to the end:
one save would undo what the other has said. A disk that hangs is not waited for: what it is asked to write may be in
the file or not then, so the state is written again until it is.
"""

from __future__ import annotations

from pathlib import Path

import trio

from hawatch.agent.ownership import Emit
from hawatch.agent.state import AdminState, follow_renames, load_admin, save_admin
from hawatch.errors import RefusedError
from hawatch.model import Event, Plan, Severity

SAVE_S = 5.0
"""So long the disk is waited for; an administrator waits with us."""
AGAIN_S = 30.0
"""What could not be written is tried again after so long."""


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
        self._thread = trio.CapacityLimiter(1)
        if self.state.to_file() != loaded.to_file():
            self._moved.set()

    async def run(self) -> None:
        """Write down what has changed without a command that waits, until cancelled."""
        if self.problem:
            self._emit([Event("state_broken", self.problem, Severity.WARNING)])
        while True:
            await self._moved.wait()
            await self.settle()
            if self.problem:
                await trio.sleep(AGAIN_S)
                self._moved.set()

    async def say(self, state: AdminState, plan: Plan) -> None:
        """Write down a state and go on by it; raise RefusedError if it cannot be written. `lock` must be held."""
        state.locate(plan)
        if failure := await self._save(state):
            raise RefusedError(f"{failure}: nothing was changed, for it would not survive")
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
            failure, earlier = await self._save(self.state), self.problem
            what = "a restart may not find the giveaway, or what is drained or disabled, as they are now"
            self.problem = f"{failure}: {what}" if failure else ""
            if failure and self.problem != earlier:
                self._emit([Event("state_broken", self.problem, Severity.WARNING)])

    async def _save(self, state: AdminState) -> str:
        """Write the file; return why that failed, "" if it did not."""
        is_known = False
        try:
            with trio.move_on_after(SAVE_S):
                await trio.to_thread.run_sync(
                    save_admin, self._path, state.to_file(), abandon_on_cancel=True, limiter=self._thread
                )
                is_known = True
                return ""
        except OSError as error:
            is_known = True
            return f"{self._path} cannot be written ({error.strerror})"
        finally:
            if not is_known:  # the disk may take it yet
                self._moved.set()
        return f"{self._path} cannot be written (the disk has not answered for {SAVE_S:g} s)"
