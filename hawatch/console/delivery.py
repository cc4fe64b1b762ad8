"""Delivery: takes letters out of the spool and sends them, each recipient's in order, none waiting for another's."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

import trio

from hawatch.actions.outgoing import Outgoing, SendError
from hawatch.console.shelf import Shelf
from hawatch.console.spool import Letter, Spool
from hawatch.console.surroundings import surroundings
from hawatch.console.targets import Target, read_templates
from hawatch.console.words import render
from hawatch.model import NS_PER_S, Event, Severity

TELL_AFTER = 3
"""Failed attempts with one letter before an event tells of it."""
LOOK_S = 5.0
"""The spool is looked at so often, whatever the clock does."""
STATUS_LASTS_NS = 2 * NS_PER_S
"""How things stand is asked anew after so long."""
STATUS_GAP_S = 0.2
"""The core is asked no more often."""


class Delivery:
    """What is being sent now."""

    def __init__(
        self,
        shelf: Shelf,
        node: str,
        cluster: str,
        wall_clock: Callable[[], int],
        tell: Callable[[Event], None],
        status: Callable[[], Awaitable[bytes]],
    ) -> None:
        self.targets: dict[str, Target] = {}
        self.cluster = cluster
        self.sent: dict[str, int] = {}
        """Letters sent since the start, by target."""
        self.failures: dict[str, int] = {}
        """Failed attempts since the start, by target."""
        self.problems: dict[str, str] = {}
        """Why the last attempt of a target failed; nothing for one that succeeded."""
        self._shelf = shelf
        self._node = node
        self._wall_clock = wall_clock
        self._tell = tell
        self._status = status
        self._status_data = b""
        self._status_ns = 0
        self._asked_at = -STATUS_GAP_S
        self._asking = trio.Lock()
        self._busy: set[tuple[str, str]] = set()
        self._wake = trio.Event()

    def wake(self) -> None:
        """Look at the spool now."""
        self._wake.set()

    async def run(self) -> None:
        """Send what is due, for ever."""
        async with trio.open_nursery() as nursery:
            while True:
                self._wake = trio.Event()
                next_ns = self._wall_clock() + int(LOOK_S * NS_PER_S)
                for name in list(self.targets):
                    heads = await self._shelf.work(lambda spool, target=name: spool.heads(target))  # type: ignore[misc]
                    for recipient, due_ns in heads:
                        if (name, recipient) in self._busy:
                            continue
                        if due_ns <= self._wall_clock():
                            self._busy.add((name, recipient))
                            nursery.start_soon(self._serve, name, recipient)
                        else:
                            next_ns = min(next_ns, due_ns)
                with trio.move_on_after(max(0.01, (next_ns - self._wall_clock()) / NS_PER_S)):
                    await self._wake.wait()

    async def _serve(self, name: str, recipient: str) -> None:
        """Send a recipient's letters until none is due."""
        try:
            while (target := self.targets.get(name)) is not None:
                now_ns = self._wall_clock()
                letter = await self._shelf.work(lambda spool, now_ns=now_ns: spool.begin(name, recipient, now_ns))  # type: ignore[misc]
                if letter is None or not await self._attempt(target, letter):
                    return
        finally:
            self._busy.discard((name, recipient))
            self._wake.set()

    async def _attempt(self, target: Target, letter: Letter) -> bool:
        """Send one letter; False when it has to wait."""
        try:
            await target.send(await self.render(target, letter), letter.recipient)
        except SendError as error:
            return await self._failed(letter, error)
        except Exception as error:  # noqa: BLE001 - a mistake in what sends costs one attempt, not the console
            return await self._failed(letter, SendError(f"the alert raised {error!r}", perhaps_taken=True))
        self.problems.pop(letter.target, None)
        self.sent[letter.target] = self.sent.get(letter.target, 0) + 1
        await self._shelf.work(lambda spool: spool.sent(letter, self._wall_clock()))
        return True

    async def render(self, target: Target, letter: Letter) -> Outgoing:
        """Return a letter's words."""
        templates, problem = read_templates(target)
        state = ""
        if not letter.message.digest and not letter.message.test:
            record = letter.message.items[0].record
            state = surroundings(await self._status_after(letter.created_ns), record.service, record.group)
        outgoing = render(
            letter.message,
            cluster=self.cluster,
            node=self._node,
            created_ns=letter.created_ns,
            twice=letter.twice,
            templates=templates,
            state=state,
        )
        if problem:
            outgoing = replace(outgoing, body=f"{outgoing.body}\n\nThe template could not be used: {problem}")
        return outgoing

    async def _status_after(self, made_ns: int) -> bytes:
        """Return a status from after a letter was made: letters that go together have it in common."""
        async with self._asking:
            if self._status_ns <= made_ns or self._wall_clock() - self._status_ns > STATUS_LASTS_NS:
                await trio.sleep_until(self._asked_at + STATUS_GAP_S)
                self._asked_at, self._status_ns = trio.current_time(), self._wall_clock()
                self._status_data = await self._status()
            return self._status_data

    async def _failed(self, letter: Letter, error: SendError) -> bool:
        """Note a failed attempt; True when the letter is given up, so that the next one may go."""
        reason = str(error)
        self.failures[letter.target] = self.failures.get(letter.target, 0) + 1
        self.problems[letter.target] = reason
        now_ns = self._wall_clock()
        if error.for_good:
            await self._shelf.work(lambda spool: spool.failed(letter, reason, now_ns))
            given_up = True
        else:
            again = partial(_again, letter, reason, now_ns, error.perhaps_taken)
            given_up = not await self._shelf.work(again)
        if given_up:
            # The last resort: whoever reads the log reads it.
            subject = letter.message.items[-1].record.reason if letter.message.items else "a test"
            print(f"hawatch console: not sent by {letter.target}: {subject}", file=sys.stderr, flush=True)
        if given_up or letter.attempts + 1 == TELL_AFTER:
            what = "is given up" if given_up else f"failed {letter.attempts + 1} times and is tried again"
            text = f"{letter.target} to {letter.recipient}: a message {what}: {reason}"
            numbers: dict[str, int | float | str] = {"alert": letter.target, "attempts": letter.attempts + 1}
            self._tell(Event("alert_failed", text, Severity.WARNING, numbers=numbers))
        return given_up


def _again(letter: Letter, reason: str, now_ns: int, twice: bool, spool: Spool) -> bool:  # noqa: FBT001 - for partial
    return spool.again(letter, reason, now_ns, twice=twice)
