"""Messages that wait to be sent: for each recipient in order, with back-off, until they are sent or too old.

A letter is `waiting`, or `sending` while an attempt is under way: where the console dies in between, nobody knows
whether the server took it, and it is sent again with a mark that it may come twice.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

import msgspec

from hawatch.console.history import Message
from hawatch.model import NS_PER_S

WAITING_MAX = 5000
"""Letters of one recipient that wait at most; a newer one is given up at once, and that is told."""
BYTES_MAX = 128 << 20
"""Bytes of what waits for one recipient; a digest beyond that is given up likewise."""
BIG = 16384
"""Bytes from which a message is weighed."""
BACKOFF_NS = (5 * NS_PER_S, 15 * NS_PER_S, 30 * NS_PER_S, 60 * NS_PER_S, 120 * NS_PER_S, 300 * NS_PER_S)
"""Waits after the first, second ... failed attempt; the last one for all that follow."""
GIVE_UP_NS = 2 * 86400 * NS_PER_S
"""A letter that could not be sent for so long is given up."""
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError)
"""What decoding raises for bytes that a damaged disk made of a message or an event."""
_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(Message)


@dataclass(frozen=True, slots=True)
class Letter:
    """One message to one recipient."""

    seq: int
    target: str
    recipient: str
    message: Message
    created_ns: int
    attempts: int
    twice: bool
    """It may have been sent before."""


@dataclass(frozen=True, slots=True)
class Counts:
    """The spool at a glance."""

    waiting: int
    sent: int
    failed: int


def backoff_ns(attempts: int) -> int:
    """Return how long to wait after so many failed attempts."""
    assert attempts >= 1, attempts
    return BACKOFF_NS[min(attempts, len(BACKOFF_NS)) - 1]


class Spool:
    """The letters in a database. The caller begins and ends transactions."""

    def __init__(self, database: sqlite3.Connection, bytes_max: int = BYTES_MAX) -> None:
        self.database = database
        self._bytes_max = bytes_max

    def add(self, message: Message, recipients: tuple[str, ...], now_ns: int) -> None:
        """Put a message in for each recipient; the same message again is passed over."""
        body = _encode(message)
        for recipient in recipients:
            full = self._full(message.rule, recipient, len(body))
            self.database.execute(
                "INSERT OR IGNORE INTO letter (target, recipient, key, body, created_ns, due_ns, state, error)"
                " VALUES (?,?,?,?,?,?,?,?)",
                (message.rule, recipient, message.key, b"" if full else body, now_ns, now_ns,
                 "failed" if full else "waiting", full),
            )  # fmt: skip
            if full:
                self.database.execute(
                    "UPDATE letter SET done_ns = ? WHERE target = ? AND recipient = ? AND key = ? AND state = 'failed'",
                    (now_ns, message.rule, recipient, message.key),
                )

    def _full(self, target: str, recipient: str, size: int) -> str:
        """Return why no more may wait for a recipient, "" if it may."""
        what = "count(*), 0" if size < BIG else "count(*), total(length(body))"
        count, weight = self.database.execute(
            f"SELECT {what} FROM letter WHERE target = ? AND recipient = ? AND state IN ('waiting', 'sending')",
            (target, recipient),
        ).fetchone()
        if count >= WAITING_MAX:
            return f"{WAITING_MAX} messages were waiting already"
        return f"{self._bytes_max >> 20} MiB were waiting already" if weight + size > self._bytes_max else ""

    def heads(self, target: str) -> list[tuple[str, int]]:
        """Return each recipient with something to send, and when its oldest letter is due."""
        rows = self.database.execute(
            "SELECT recipient, due_ns, min(seq) FROM letter WHERE target = ? AND state = 'waiting' GROUP BY recipient",
            (target,),
        )
        return [(recipient, due_ns) for recipient, due_ns, _ in rows]

    def begin(self, target: str, recipient: str, now_ns: int) -> Letter | None:
        """Begin an attempt with a recipient's oldest letter if it is due, and return it; a damaged one is given up."""
        row = self.database.execute(
            "SELECT seq, body, created_ns, due_ns, attempts, twice FROM letter"
            " WHERE target = ? AND recipient = ? AND state IN ('waiting', 'sending') ORDER BY seq LIMIT 1",
            (target, recipient),
        ).fetchone()
        if row is None or row[3] > now_ns:
            return None
        seq, body, created_ns, _, attempts, twice = row
        try:
            message = _decoder.decode(body)
        except UNREADABLE as error:
            self.database.execute(
                "UPDATE letter SET state = 'failed', done_ns = ?, error = ? WHERE seq = ?",
                (now_ns, f"it cannot be read, the file is damaged: {error}", seq),
            )
            return None
        self.database.execute("UPDATE letter SET state = 'sending' WHERE seq = ?", (seq,))
        return Letter(seq, target, recipient, message, created_ns, attempts, bool(twice))

    def sent(self, letter: Letter, now_ns: int) -> None:
        """The recipient's server has it."""
        self._set(letter, "sent", letter.attempts + 1, 0, "", now_ns)

    def failed(self, letter: Letter, error: str, now_ns: int) -> None:
        """It is given up."""
        self._set(letter, "failed", letter.attempts + 1, 0, error, now_ns)

    def again(self, letter: Letter, error: str, now_ns: int, *, twice: bool) -> bool:
        """An attempt failed: wait before the next; False when the letter is too old and given up."""
        if now_ns - letter.created_ns >= GIVE_UP_NS:
            self.failed(letter, error, now_ns)
            return False
        due_ns = now_ns + backoff_ns(letter.attempts + 1)
        self._set(letter, "waiting", letter.attempts + 1, due_ns, error, 0)
        if twice:
            self.database.execute("UPDATE letter SET twice = 1 WHERE key = ? AND target = ? AND recipient = ?",
                                  (letter.message.key, letter.target, letter.recipient))  # fmt: skip
        return True

    def mark_interrupted(self) -> None:
        """At start: what was being sent may have been sent."""
        self.database.execute("UPDATE letter SET state = 'waiting', twice = 1 WHERE state = 'sending'")

    def forget_targets(self, known: set[str], now_ns: int) -> None:
        """Give up the letters of alerts that the configuration has no more."""
        rows = self.database.execute("SELECT DISTINCT target FROM letter WHERE state = 'waiting'").fetchall()
        for (target,) in rows:
            if target not in known:
                self.database.execute(
                    "UPDATE letter SET state = 'failed', done_ns = ?, error = ? WHERE target = ? AND state = 'waiting'",
                    (now_ns, "the configuration has this alert no more", target),
                )

    def forget(self, floor_ns: int) -> None:
        """Delete what was done before an instant."""
        self.database.execute("DELETE FROM letter WHERE done_ns > 0 AND done_ns < ?", (floor_ns,))

    def counts(self) -> dict[str, Counts]:
        """Return how many letters of each target there are."""
        found: dict[str, dict[str, int]] = {}
        for target, state, count in self.database.execute(
            "SELECT target, state, count(*) FROM letter GROUP BY target, state"
        ):
            states = found.setdefault(target, {})
            states[state] = count
        return {
            target: Counts(one.get("waiting", 0) + one.get("sending", 0), one.get("sent", 0), one.get("failed", 0))
            for target, one in found.items()
        }

    def waiting(self) -> dict[str, tuple[int, int]]:
        """Return how many letters of each target wait, and when the oldest was made; found by an index."""
        rows = self.database.execute(
            "SELECT target, count(*), min(created_ns) FROM letter WHERE state IN ('waiting', 'sending') GROUP BY target"
        )
        return {target: (count, oldest_ns) for target, count, oldest_ns in rows}

    def _set(self, letter: Letter, state: str, attempts: int, due_ns: int, error: str, done_ns: int) -> None:
        # By key, not by number: the database in memory that takes the file's place numbers anew.
        self.database.execute(
            "UPDATE letter SET state = ?, attempts = ?, due_ns = ?, error = ?, done_ns = ?"
            " WHERE key = ? AND target = ? AND recipient = ?",
            (state, attempts, due_ns, error[:500], done_ns, letter.message.key, letter.target, letter.recipient),
        )
