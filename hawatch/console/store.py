"""The console's file: events, the policy's history and the messages that wait, all in one SQLite database.

Theory of operation
-------------------
An event, what the policy remembers of it and the messages that follow from it become true in one transaction: whoever
kills the console leaves all of them or none, and what is told again after that is recognised by its number.

A file that is broken is put aside as `.broken`, with what can be read of it saved, and a new one is begun. A file that
cannot be written (the disk is full, or gone) is left alone: everything goes on in a database in memory until it can be
written again, and is put into it then. `problem` says so meanwhile.

Synchronous and for one thread at a time: the caller runs it beside its event loop.
"""

from __future__ import annotations

import contextlib
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import msgspec

from hawatch.agent.events import Record
from hawatch.console.history import Entry, Flow, History, Item, Key, Message, Owner, Told, Trouble
from hawatch.console.policy import acknowledge, decide
from hawatch.console.rules import Policy
from hawatch.console.sharing import note_owners
from hawatch.console.spool import UNREADABLE, Spool
from hawatch.console.subjects import Match
from hawatch.model import NS_PER_S

SCHEMA = """
CREATE TABLE IF NOT EXISTS event (
    seq INTEGER PRIMARY KEY, node TEXT NOT NULL, id INTEGER NOT NULL, at_ns INTEGER NOT NULL, name TEXT NOT NULL,
    severity TEXT NOT NULL, grp TEXT NOT NULL, service TEXT NOT NULL, server TEXT NOT NULL, body BLOB NOT NULL,
    UNIQUE (node, id));
CREATE INDEX IF NOT EXISTS event_at ON event (at_ns);
CREATE INDEX IF NOT EXISTS event_service ON event (service, at_ns);
CREATE TABLE IF NOT EXISTS history (key BLOB PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS letter (
    seq INTEGER PRIMARY KEY, target TEXT NOT NULL, recipient TEXT NOT NULL, key TEXT NOT NULL, body BLOB NOT NULL,
    created_ns INTEGER NOT NULL, due_ns INTEGER NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
    state TEXT NOT NULL DEFAULT 'waiting', twice INTEGER NOT NULL DEFAULT 0, error TEXT NOT NULL DEFAULT '',
    done_ns INTEGER NOT NULL DEFAULT 0, UNIQUE (target, recipient, key));
CREATE INDEX IF NOT EXISTS letter_waiting ON letter (target, recipient, seq) WHERE state IN ('waiting', 'sending');
"""
VERSION = 1
BUSY_S = 2.0
MEMORY_EVENTS_MAX = 20_000
"""Events kept in memory while the file cannot be written."""
PURGE_ROWS = 5000
"""Events deleted in one transaction: nothing waits long for it."""
EVENTS_MAX = 2_000_000
"""Events in the file at most, however long they are to be kept."""
NEWS_NS = 600 * NS_PER_S
"""When the file is new, events older than this are history: nobody is told of them."""
CORRUPT = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

T = TypeVar("T")
_tags: dict[str, type[Trouble] | type[Told] | type[Flow] | type[Item] | type[Owner]] = {
    "trouble": Trouble, "told": Told, "flow": Flow, "held": Item, "owner": Owner,
}  # fmt: skip
_encode = msgspec.json.Encoder().encode


def event_ns(record: Record) -> int:
    """Return when an event happened, on the wall clock."""
    return int(datetime.fromisoformat(record.time).timestamp() * 1000) * 1_000_000


def event_id(record: Record) -> int:
    """Return an event's own number; one that was written without it gets one from its words."""
    return record.id or event_ns(record) + zlib.crc32(_encode(record)) % 1_000_000


class Store:
    """The one database of a console."""

    def __init__(self, path: Path, keep_ns: int, wall_clock: Callable[[], int]) -> None:
        self.path = path
        self.problem = ""
        """Why nothing is written to the file now; "" when all is well."""
        self.notes: list[str] = []
        """What happened to the file and is to be told once, as an event."""
        self.history = History()
        """Never changed in place, as others read it while a thread is at work here: another takes its place."""
        self.keep_ns = keep_ns
        """How long events are kept."""
        self._wall_clock = wall_clock
        self._fresh_ns = 0
        """When the file was begun by this process."""
        self.in_memory = False
        self.committed_ns = 0
        """When something was last written for good; 0 before the first time."""
        self._salvage_from = path
        self._db = self._open_any()
        if self.in_memory or self._salvage_from != path:
            with self._db:
                _salvage(self._salvage_from).put_into(self._db)
        self.spool = Spool(self._db)
        loaded = History()
        try:
            _load_history(self._db, loaded)
        except sqlite3.Error as error:
            self.history = loaded
            self._fail(error)
        self.history = loaded
        self._safely(lambda: self.spool.mark_interrupted())

    # --- opening ---------------------------------------------------------------------------------------------

    def _open_any(self) -> sqlite3.Connection:
        try:
            return self._open_file()
        except sqlite3.Error as error:
            if not _is_corrupt(error):
                return self._open_memory(error)
            self._put_aside(error)
        try:
            return self._open_file()
        except sqlite3.Error as error:
            return self._open_memory(error)

    def _open_file(self) -> sqlite3.Connection:
        new = not self.path.exists()
        database = _connect(str(self.path))
        try:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
            database.executescript(SCHEMA)
            database.execute(f"PRAGMA user_version = {VERSION}")
            database.execute("SELECT count(*) FROM letter").fetchone()
            database.execute("INSERT OR REPLACE INTO meta VALUES ('opened_ns', ?)", (self._wall_clock(),))
        except BaseException:
            database.close()
            raise
        if new:
            self._fresh_ns = self._wall_clock()
        return database

    def _open_memory(self, error: sqlite3.Error) -> sqlite3.Connection:
        self.in_memory = True
        self.problem = f"{self.path} cannot be written ({error}): events and alerts are kept in memory only"
        self.notes.append(self.problem)
        database = _connect(":memory:")
        database.executescript(SCHEMA)
        if not self.path.exists():
            self._fresh_ns = self._fresh_ns or self._wall_clock()
        return database

    def _put_aside(self, error: sqlite3.Error) -> None:
        """Rename a broken file, so that it can be looked at, and so that a new one can be begun."""
        for ending in ("", "-wal", "-shm"):
            file = self.path.with_name(self.path.name + ending)
            with contextlib.suppress(OSError):
                file.replace(self.path.with_name(self.path.name + ".broken" + ending))
        self._salvage_from = self.path.with_name(self.path.name + ".broken")
        self.notes.append(
            f"{self.path} was broken ({error}): it is kept as {self.path.name}.broken, a new one is begun"
        )

    # --- failing and coming back -----------------------------------------------------------------------------

    def _safely(self, work: Callable[[], T]) -> T:
        """Do a piece of work in one transaction; where the file fails, do it with what takes its place."""
        for _ in range(3):
            try:
                with self._db:
                    done = work()
                if not self.in_memory:
                    self.committed_ns = self._wall_clock()
                return done
            except sqlite3.Error as error:
                self._fail(error)
        with self._db:
            return work()

    def _fail(self, error: sqlite3.Error) -> None:
        if self.in_memory:
            raise error
        saved = _Saved(self._db, self.history)
        with contextlib.suppress(sqlite3.Error):
            self._db.close()
        if _is_corrupt(error):
            self._put_aside(error)
            self._db = self._open_any()
        else:
            self._db = self._open_memory(error)
        try:
            with self._db:
                saved.put_into(self._db)
        except sqlite3.Error as another:
            if self.in_memory:
                raise
            self._db.close()
            self._db = self._open_memory(another)
            saved.put_into(self._db)
        self.spool.database = self._db

    def _read(self, work: Callable[[], T]) -> T:
        """Read something; where the file fails, read what takes its place."""
        for _ in range(3):
            try:
                return work()
            except sqlite3.Error as error:
                if not (_is_corrupt(error) or _code(error) == sqlite3.SQLITE_IOERR):
                    raise  # the question is wrong, not the file
                self._fail(error)
        return work()

    def try_file(self) -> bool:
        """Go back to the file if everything is in memory and it can be written again; tell whether all is well."""
        if not self.in_memory:
            return True
        try:
            database = self._open_file()
        except sqlite3.Error as error:
            if _is_corrupt(error):
                self._put_aside(error)
            return False
        try:
            with database:
                _Saved(self._db, self.history).put_into(database, all_letters=True)
        except sqlite3.Error:
            database.close()
            return False
        self._db.close()
        self._db = self.spool.database = database
        self.in_memory, self.problem = False, ""
        self.notes.append(f"{self.path} is written again")
        return True

    # --- work ------------------------------------------------------------------------------------------------

    def take(self, records: Iterable[Record], policy: Policy, targets: Mapping[str, tuple[str, ...]]) -> list[Record]:
        """Write down events, and decide who is told; return those that were news."""
        kept = list(records)
        fresh, self.history = self._safely(lambda: self._take(kept, policy, targets))
        return fresh

    def _take(
        self, records: list[Record], policy: Policy, targets: Mapping[str, tuple[str, ...]]
    ) -> tuple[list[Record], History]:
        now_ns = self._wall_clock()
        floor_ns = max(now_ns - self.keep_ns, self._meta("floor_ns"))
        history, changed, fresh = History(dict(self.history.entries)), dict[Key, Entry | None](), list[Record]()
        messages: list[Message] = []
        for record in records:
            at_ns = event_ns(record)
            if at_ns <= floor_ns or not self._insert(record, at_ns):
                continue
            fresh.append(record)
            if self._fresh_ns and at_ns < self._fresh_ns - NEWS_NS:
                continue
            decision = decide(policy, history, record, now_ns)
            history.apply(decision.changes)
            changed.update(decision.changes)
            messages += decision.messages
        self._write(changed, messages, targets, now_ns)
        if self.in_memory:
            self._db.execute("DELETE FROM event WHERE seq <= (SELECT max(seq) FROM event) - ?", (MEMORY_EVENTS_MAX,))
        return fresh, history

    def pass_time(self, policy: Policy, targets: Mapping[str, tuple[str, ...]]) -> None:
        """Decide what is due by now."""

        now_ns = self._wall_clock()
        decision = decide(policy, self.history, None, now_ns)
        self._safely(lambda: self._write(decision.changes, decision.messages, targets, now_ns))
        self._apply(decision.changes)

    def note_owners(self, policy: Policy, owners: Mapping[str, str]) -> None:
        """Write down who owns the groups."""
        self._change(note_owners(policy, self.history, owners, self._wall_clock()))

    def acknowledge(self, match: Match, text: str) -> list[Record]:
        """Write down that an administrator sees to the failures that match, and return them."""
        changes, records = acknowledge(self.history, match, text)
        self._change(changes)
        return records

    def _change(self, changes: Mapping[Key, Entry | None]) -> None:
        if changes:
            self._safely(lambda: self._write(changes, (), {}, self._wall_clock()))
            self._apply(changes)

    def _apply(self, changes: Mapping[Key, Entry | None]) -> None:
        history = History(dict(self.history.entries))
        history.apply(changes)
        self.history = history

    def put(self, message: Message, targets: Mapping[str, tuple[str, ...]]) -> None:
        """Put a message into the spool that no event asked for: a test."""
        self._safely(lambda: self._write({}, [message], targets, self._wall_clock()))

    def work(self, function: Callable[[Spool], T]) -> T:
        """Do something with the spool, in one transaction."""
        return self._safely(lambda: function(self.spool))

    def query(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Read something."""
        return self._read(lambda: function(self._db))

    def purge(self) -> int:
        """Delete some of what is older than it is to be kept; return how many events went."""

        def work() -> int:
            floor_ns = self._wall_clock() - self.keep_ns
            count = self._db.execute("SELECT count(*) FROM event").fetchone()[0] if not self.in_memory else 0
            if count > EVENTS_MAX:
                row = self._db.execute("SELECT at_ns FROM event ORDER BY at_ns LIMIT 1 OFFSET ?", (PURGE_ROWS,))
                floor_ns = max(floor_ns, (row.fetchone() or (0,))[0])
            self._db.execute("INSERT OR REPLACE INTO meta VALUES ('floor_ns', ?)", (floor_ns,))
            gone = self._db.execute(
                "DELETE FROM event WHERE seq IN (SELECT seq FROM event WHERE at_ns <= ? LIMIT ?)",
                (floor_ns, PURGE_ROWS),
            ).rowcount
            self.spool.forget(floor_ns)
            return gone

        return self._safely(work)

    def last_id(self) -> int:
        """Return the number of the event that was taken in last, 0 for none."""
        newest = "SELECT id FROM event ORDER BY seq DESC LIMIT 1"
        row = self._read(lambda: self._db.execute(newest).fetchone())
        return int(row[0]) if row else 0

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    # --- pieces ----------------------------------------------------------------------------------------------

    def _meta(self, name: str) -> int:
        row = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return int(row[0]) if row else 0

    def _insert(self, record: Record, at_ns: int) -> bool:
        body = _encode(record)
        return bool(
            self._db.execute(
                f"INSERT OR IGNORE INTO event ({_EVENT}) VALUES (?,?,?,?,?,?,?,?,?)",
                (record.node, event_id(record), at_ns, record.name, record.severity, record.group, record.service,
                 record.server, body),
            ).rowcount
        )  # fmt: skip

    def _write(
        self,
        changes: Mapping[Key, Entry | None],
        messages: Iterable[Message],
        targets: Mapping[str, tuple[str, ...]],
        now_ns: int,
    ) -> None:
        _write_history(self._db, changes)
        for message in messages:
            self.spool.add(message, targets.get(message.rule, ()), now_ns)


_EVENT = "node, id, at_ns, name, severity, grp, service, server, body"


class _Saved:
    """What must not be lost when one database takes the place of another: history, letters, and the last events.

    The events are there so that one which comes twice is known. Of a damaged table it has what comes before the damage.
    """

    LETTER = "target, recipient, key, body, created_ns, due_ns, attempts, state, twice, error, done_ns"

    def __init__(self, database: sqlite3.Connection, history: History | None) -> None:
        self._history = history or History()
        self._letters: list[tuple[object, ...]] = []
        self._events: list[tuple[object, ...]] = []
        with contextlib.suppress(sqlite3.Error):
            database.rollback()
            self._letters.extend(database.execute(f"SELECT {self.LETTER} FROM letter ORDER BY seq"))
        with contextlib.suppress(sqlite3.Error):
            if history is None:
                _load_history(database, self._history)
        with contextlib.suppress(sqlite3.Error):
            newest = f"SELECT {_EVENT} FROM event ORDER BY seq DESC LIMIT ?"
            self._events.extend(database.execute(newest, (MEMORY_EVENTS_MAX,)))
        self._events.reverse()

    def put_into(self, database: sqlite3.Connection, *, all_letters: bool = False) -> None:
        """Write it into another database."""
        database.execute("DELETE FROM history")
        _write_history(database, self._history.entries)
        database.executemany(f"INSERT OR IGNORE INTO event ({_EVENT}) VALUES (?,?,?,?,?,?,?,?,?)", self._events)
        for row in self._letters:
            if all_letters or row[7] in ("waiting", "sending"):
                database.execute(f"INSERT OR REPLACE INTO letter ({self.LETTER}) VALUES (?,?,?,?,?,?,?,?,?,?,?)", row)


def _salvage(path: Path) -> _Saved:
    """Return what can be read of a file that cannot be used."""
    try:
        database = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)
    except sqlite3.Error:
        database = _connect(":memory:")
    try:
        return _Saved(database, None)
    finally:
        database.close()


def _connect(name: str) -> sqlite3.Connection:
    return sqlite3.connect(name, timeout=BUSY_S, check_same_thread=False)


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _is_corrupt(error: sqlite3.Error) -> bool:
    return _code(error) in CORRUPT


def _write_history(database: sqlite3.Connection, changes: Mapping[Key, Entry | None]) -> None:
    for key, entry in changes.items():
        if entry is None:
            database.execute("DELETE FROM history WHERE key = ?", (_encode(key),))
        else:
            database.execute("INSERT OR REPLACE INTO history VALUES (?, ?)", (_encode(key), _encode(entry)))


def _load_history(database: sqlite3.Connection, history: History) -> None:
    """Add the history of a database; entries that cannot be understood are left out."""
    for key_bytes, body in database.execute("SELECT key, body FROM history"):
        with contextlib.suppress(*UNREADABLE, KeyError):
            key = tuple(msgspec.json.decode(key_bytes, type=list[str]))
            history.entries[key] = msgspec.json.decode(body, type=_tags[key[0]])
