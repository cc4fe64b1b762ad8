"""Supervision of one child process, as decisions only.

Theory of operation
-------------------
The keeper holds a `Ward` for each child. It tells the ward what happened (born, answered, died) and the time, and
does what `tick` returns: start the child, ask whether it is there, or kill it.

    WAITING --start--> RUNNING --died--> WAITING (with back-off) ... ; any --stop--> STOPPED

A child that has left a question unanswered for `Limits.silence_ns` is killed; its death is then told by the kernel
like any other. Time in which the keeper itself did not run (it was stopped, the machine was paused) is forgiven:
children had no chance to answer, or answered and were not heard.

A child that lived for `Limits.good_ns` starts anew with the first delay; else the delay doubles.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from hawatch.model import NS_PER_MS, NS_PER_S

ASK_INTERVAL_NS = NS_PER_S
BACK_OFF_FIRST_NS = 50 * NS_PER_MS
BACK_OFF_MAX_NS = 30 * NS_PER_S


class WardState(Enum):
    """Where a child is in its life."""

    WAITING = "waiting"
    RUNNING = "running"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Limits:
    """How patient the keeper is with one kind of child."""

    silence_ns: int
    """A question may stay unanswered for so long."""
    good_ns: int
    """A child that lived so long was a good one: its end starts the back-off from the beginning."""
    first_delay_ns: int = BACK_OFF_FIRST_NS
    """Delay of the first restart; 0 is at once."""
    delay_max_ns: int = BACK_OFF_MAX_NS


@dataclass(frozen=True, slots=True)
class Start:
    """Fork the child."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Send `AreYouThere` of this number."""

    number: int


@dataclass(frozen=True, slots=True)
class Kill:
    """Kill the child; the reason goes into the event."""

    reason: str


Command = Start | Ask | Kill


class Ward:
    """What the keeper knows of one child."""

    def __init__(self, name: str, limits: Limits, now_ns: int) -> None:
        self.name = name
        self.limits = limits
        self.state = WardState.WAITING
        self.pid = 0
        self.restarts = 0
        self.kill_reason = ""
        """Why it was killed by us, until it is born again."""
        self._start_at_ns = now_ns
        self._born_ns = 0
        self._delay_ns = 0
        self._number = 0
        self._ask_at_ns = 0
        self._unanswered_since_ns: int | None = None

    def tick(self, now_ns: int) -> Command | None:
        """Return what is due now, if anything."""
        if self.state is WardState.WAITING:
            return Start() if now_ns >= self._start_at_ns else None
        if self.state is WardState.STOPPED or self.kill_reason:
            return None
        since = self._unanswered_since_ns
        if since is not None and now_ns - since >= self.limits.silence_ns:
            self.kill_reason = f"no answer for {(now_ns - since) / NS_PER_S:.1f} s"
            return Kill(self.kill_reason)
        if now_ns < self._ask_at_ns:
            return None
        self._number += 1
        self._ask_at_ns = now_ns + ASK_INTERVAL_NS
        if since is None:
            self._unanswered_since_ns = now_ns
        return Ask(self._number)

    def due_ns(self) -> int | None:
        """Return when `tick` next has something to do; None: only after something else happens."""
        if self.state is WardState.WAITING:
            return self._start_at_ns
        if self.state is WardState.STOPPED or self.kill_reason:
            return None
        if self._unanswered_since_ns is None:
            return self._ask_at_ns
        return min(self._ask_at_ns, self._unanswered_since_ns + self.limits.silence_ns)

    def born(self, pid: int, now_ns: int) -> None:
        """The child was forked."""
        assert self.state is WardState.WAITING, self.state
        self.state, self.pid = WardState.RUNNING, pid
        self.kill_reason = ""
        self._born_ns = self._ask_at_ns = now_ns
        self._unanswered_since_ns = None

    def answered(self, number: int) -> None:
        """An answer came; any answer to a question of this life will do."""
        if self.state is WardState.RUNNING and number <= self._number:
            self._unanswered_since_ns = None

    def died(self, now_ns: int) -> int:
        """The child is gone; return in how many nanoseconds it is started again."""
        assert self.state is WardState.RUNNING, self.state
        self.state, self.pid = WardState.WAITING, 0
        self.restarts += 1
        if self._delay_ns == 0 or now_ns - self._born_ns >= self.limits.good_ns:
            delay_ns = self.limits.first_delay_ns
            self._delay_ns = BACK_OFF_FIRST_NS
        else:
            delay_ns = self._delay_ns
        if delay_ns:
            self._delay_ns = min(2 * delay_ns, self.limits.delay_max_ns)
        self._start_at_ns = now_ns + delay_ns
        return delay_ns

    def forgive(self, late_ns: int) -> None:
        """The keeper itself did not run for so long: do not count it against the child."""
        assert late_ns >= 0, late_ns
        if self._unanswered_since_ns is not None:
            self._unanswered_since_ns += late_ns

    def stop(self) -> None:
        """Start it no more, ask it no more."""
        self.state, self.pid = WardState.STOPPED, 0
