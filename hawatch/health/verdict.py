"""From results to verdicts: rise, fall and flap damping of one check.

Theory of operation. The first result decides at once: there is nothing to be careful about yet. After that `fall` bad
results in a row make it down, `rise` good ones make it up again. A check that goes down again and again is **held**:
each time it goes down its penalty grows by `PENALTY_STEP`; the penalty halves every `HALF_LIFE_NS`. Above
`PENALTY_HOLD` the check stays down, though it may answer, until the penalty is below `PENALTY_FREE` or `HOLD_NS_MAX`
has passed.

Failures that were seen while this process itself was held up are not evidence: the caller discards them before they
get here. Instants are CLOCK_BOOTTIME; the wall clock appears in verdicts only, for people and for the next process.
"""

from __future__ import annotations

import math

from hawatch.model import NS_PER_S, Check, CheckState, Verdict

PENALTY_STEP = 1000.0
PENALTY_HOLD = 3000.0
PENALTY_FREE = 1000.0
HALF_LIFE_NS = 60 * NS_PER_S
HOLD_NS_MAX = 600 * NS_PER_S
REASON_INTERVAL_NS = 5 * NS_PER_S
"""A check that is down tells another reason no more often: servers that put the time of day, or a number, into each
answer would have the core decide anew at every run."""

UP, DOWN, UNKNOWN = CheckState.UP, CheckState.DOWN, CheckState.UNKNOWN

TRANSITIONS: dict[CheckState, dict[bool, CheckState]] = {
    UNKNOWN: {True: UP, False: DOWN},
    UP: {True: UP, False: DOWN},
    DOWN: {True: UP, False: DOWN},
}
"""By state and whether enough results in a row were good."""


class CheckJudge:
    """Judges the results of one check."""

    __slots__ = ("_fall", "_penalty", "_penalty_ns", "_rise", "_said_ns", "_streak", "held_until_ns", "verdict")

    def __init__(self, check: Check, known: Verdict | None, now_ns: int, wall_ns: int) -> None:
        self.verdict = known or Verdict(check.id, UNKNOWN)
        self._rise = check.rise
        self._fall = check.fall
        self._streak = 0
        """Results in a row that speak against the present state."""
        self._said_ns = now_ns - REASON_INTERVAL_NS
        """When another reason was told last."""
        self._penalty = self.verdict.penalty
        self._penalty_ns = now_ns - max(0, wall_ns - self.verdict.penalty_wall_ns) if self._penalty else now_ns
        held_wall_ns = self.verdict.held_until_wall_ns
        self.held_until_ns = min(now_ns + held_wall_ns - wall_ns, now_ns + HOLD_NS_MAX) if held_wall_ns else 0

    def reschedule(self, check: Check) -> None:
        """Go on with another rise and fall."""
        assert check.id == self.verdict.check, "another check"
        self._rise = check.rise
        self._fall = check.fall

    def take(self, *, ok: bool, reason: str, now_ns: int, wall_ns: int) -> Verdict | None:
        """Take one result; return the verdict if it changed, else None."""
        state = self.verdict.state
        if ok and state is UP:
            self._streak = 0
            return None
        if ok or state is not DOWN:
            self._streak += 1
            needed = 1 if state is UNKNOWN else self._rise if ok else self._fall
            if self._streak < needed:
                return None
            if ok and now_ns < self.held_until_ns:
                return self._hold(now_ns)
            return self._change(TRANSITIONS[state][ok], reason, now_ns, wall_ns)
        self._streak = 0
        if reason == self.verdict.reason or now_ns - self._said_ns < REASON_INTERVAL_NS:
            return None
        self._said_ns = now_ns
        return self._say(reason)

    def _change(self, state: CheckState, reason: str, now_ns: int, wall_ns: int) -> Verdict:
        assert state is not UNKNOWN, "nothing becomes unknown again"
        went_down = state is DOWN and self.verdict.state is UP
        self._streak = 0
        self.held_until_ns = 0
        if went_down:
            self._penalize(now_ns)
        held_wall_ns = wall_ns + self.held_until_ns - now_ns if self.held_until_ns else 0
        self.verdict = Verdict(
            self.verdict.check,
            state,
            reason if state is DOWN else "",
            wall_ns,
            held_wall_ns,
            self._penalty,
            wall_ns if went_down else self.verdict.penalty_wall_ns,
        )
        return self.verdict

    def _penalize(self, now_ns: int) -> None:
        """Add to the penalty what one more failure costs, and hold the check if that is too much."""
        age = max(0, now_ns - self._penalty_ns) / HALF_LIFE_NS
        self._penalty = self._penalty * 0.5**age + PENALTY_STEP
        self._penalty_ns = now_ns
        if self._penalty > PENALTY_HOLD:
            half_lives = math.log2(self._penalty / PENALTY_FREE)
            self.held_until_ns = now_ns + min(HOLD_NS_MAX, int(half_lives * HALF_LIFE_NS))

    def _hold(self, now_ns: int) -> Verdict | None:
        """It answers, but went down too often: say so, once."""
        left_s = max(1, round((self.held_until_ns - now_ns) / NS_PER_S))
        if self.verdict.reason.startswith("answers again"):
            return None
        return self._say(f"answers again, but is held down for {left_s} s because it went down too often")

    def _say(self, reason: str) -> Verdict:
        old = self.verdict
        self.verdict = Verdict(
            old.check, old.state, reason, old.since_wall_ns, old.held_until_wall_ns, old.penalty, old.penalty_wall_ns
        )
        return self.verdict
