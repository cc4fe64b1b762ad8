"""The store: what is taken in once, what a kill leaves, a broken file and a full disk."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace

import msgspec
import pytest

from hawatch.console.history import Message
from hawatch.console.journal import Filter, select
from hawatch.console.rules import Policy, Rule
from hawatch.console.store import NEWS_NS, PURGE_ROWS, Store, event_id, event_ns
from hawatch.console.subjects import Match
from hawatch.model import NS_PER_S
from tests.unit.console.records import START_NS, record

POLICY = Policy((Rule("email/ops", burst=100_000, every_ns=600 * NS_PER_S),))
TARGETS = {"email/ops": ("a@example.org", "b@example.org")}
KEEP_NS = 86400 * NS_PER_S


class Clock:
    def __init__(self):
        self.now_ns = START_NS + NS_PER_S

    def __call__(self):
        return self.now_ns


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(tmp_path, clock):
    made = Store(tmp_path / "console.db", KEEP_NS, clock)
    yield made
    made.close()


def events(store, **wanted):
    return store.query(lambda database: select(database, Filter(**wanted), 10_000))


def waiting(store):
    rows = store.query(lambda db: db.execute("SELECT recipient, body FROM letter WHERE state = 'waiting' ORDER BY seq"))
    return [recipient for recipient, _ in rows]


def test_an_event_is_taken_in_once(store):
    down = record("server_down", 0, "http", "192.168.1.1:80")
    assert store.take([down, down], POLICY, TARGETS) == [down]
    assert store.take([down], POLICY, TARGETS) == []
    assert events(store) == [down]
    assert waiting(store) == ["a@example.org", "b@example.org"]
    assert store.last_id() == down.id


def test_everything_is_there_after_a_restart(store, tmp_path, clock):
    down = record("server_down", 0, "http", "192.168.1.1:80")
    store.take([down], POLICY, TARGETS)
    assert store.acknowledge(Match(), "on it")
    store.close()
    again = Store(tmp_path / "console.db", KEEP_NS, clock)
    assert again.history.entries == store.history.entries
    assert [entry.acknowledged for key, entry in again.history.entries.items() if key[0] == "trouble"] == ["on it"]
    assert again.take([down], POLICY, TARGETS) == []
    clock.now_ns += 3600 * NS_PER_S
    again.pass_time(POLICY, TARGETS)
    assert len(waiting(again)) == 2
    again.close()


def test_what_waits_for_a_digest_survives_and_is_written_down_once(store, tmp_path, clock):
    policy = Policy((Rule("email/ops", burst=0),))
    for number in range(3):
        store.take([record("server_down", number / 10, "http", f"s{number}:80")], policy, TARGETS)
    before = store.query(lambda db: db.total_changes)
    store.take([record("server_down", 0.5, "http", "s3:80")], policy, TARGETS)
    assert store.query(lambda db: db.total_changes) - before <= 5, "the event, trouble, told, flow and the item itself"
    store.close()
    again = Store(tmp_path / "console.db", KEEP_NS, clock)
    clock.now_ns += 61 * NS_PER_S
    again.pass_time(policy, TARGETS)
    (body, _) = again.query(lambda db: [row[0] for row in db.execute("SELECT body FROM letter ORDER BY seq")])
    assert [item.record.server for item in msgspec.json.decode(body, type=Message).items] == [
        "s0:80", "s1:80", "s2:80", "s3:80",
    ]  # fmt: skip
    keys = again.query(lambda db: [row[0] for row in db.execute("SELECT CAST(key AS TEXT) FROM history")])
    assert not [key for key in keys if "held" in key]
    again.close()


def test_who_owns_a_group_is_remembered(store, tmp_path, clock):
    policy = Policy((Rule("email/ops"),), node="lvs1", first_group="web")
    store.note_owners(policy, {"web": "lvs2"})
    store.take([record("server_down", 0, "http", "a:80", "web")], policy, TARGETS)
    assert waiting(store) == []
    store.close()
    again = Store(tmp_path / "console.db", KEEP_NS, clock)
    again.note_owners(policy, {"web": "lvs1"})
    again.take([record("server_up", 1, "http", "a:80", "web")], policy, TARGETS)
    assert waiting(again) == ["a@example.org", "b@example.org"]
    again.close()


def test_time_is_looked_at(store, clock):
    store.take([record("server_down", 0, "http", "192.168.1.1:80")], POLICY, TARGETS)
    clock.now_ns += 700 * NS_PER_S
    store.pass_time(POLICY, TARGETS)
    assert len(waiting(store)) == 4


def test_a_new_file_takes_old_events_as_history(tmp_path, clock):
    clock.now_ns += 2 * NEWS_NS
    store = Store(tmp_path / "console.db", KEEP_NS, clock)
    old, new = record("server_down", 0, "a", "s:1"), record("server_down", 700, "b", "s:1")
    assert store.take([old, new], POLICY, TARGETS) == [old, new]
    assert len(waiting(store)) == 2
    store.close()


def test_retention(store, clock):
    many = [record("takeover", number / 1000) for number in range(PURGE_ROWS + 10)]
    store.take(many, Policy(), {})
    assert store.purge() == 0
    clock.now_ns += KEEP_NS + 10 * NS_PER_S
    assert store.purge() == PURGE_ROWS
    assert store.purge() == 10
    assert store.take(many, POLICY, TARGETS) == []
    assert events(store) == []


def test_records_written_without_a_number_have_one(store):
    old = record("server_down", 0, "http", "s:1")
    bare = type(old)(**{**{f: getattr(old, f) for f in old.__struct_fields__}, "id": 0})
    assert event_id(bare) // 10**6 == event_ns(bare) // 10**6
    assert store.take([bare], POLICY, TARGETS) == [bare]
    assert store.take([bare], POLICY, TARGETS) == []


def test_a_broken_file_is_put_aside(tmp_path, clock):
    path = tmp_path / "console.db"
    path.write_bytes(b"this is no database" * 1000)
    store = Store(path, KEEP_NS, clock)
    assert "was broken" in store.notes[0]
    assert (tmp_path / "console.db.broken").read_bytes().startswith(b"this is no")
    assert store.take([record("server_down")], POLICY, TARGETS)
    assert not store.in_memory
    store.close()


def test_a_file_that_breaks_while_it_is_used(tmp_path, store):
    first = record("server_down", 0, "http", "192.168.1.1:80")
    store.take([first], POLICY, TARGETS)
    store.query(lambda db: db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
    size = (tmp_path / "console.db").stat().st_size
    with open(tmp_path / "console.db", "r+b") as file:
        file.seek(4096)
        file.write(os.urandom(size - 4096))
    store.query(lambda db: db.execute("PRAGMA shrink_memory"))
    second = record("server_down", 0.5, "http", "192.168.1.2:80")
    assert store.take([second], POLICY, TARGETS) == [second]
    assert second in events(store)
    assert any(key == ("trouble", "server http 192.168.1.1:80") for key in store.history.entries)
    assert any("was broken" in note for note in store.notes)


def damage(path, table):
    """Overwrite the root page of a table."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        (root,) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
        (size,) = database.execute("PRAGMA page_size").fetchone()
    with open(path, "r+b") as file:
        file.seek((root - 1) * size)
        file.write(b"\xff" * size)


@pytest.mark.parametrize("table", ["event", "history", "letter"])
def test_a_damaged_page_costs_what_is_on_it_and_no_more(tmp_path, clock, table):
    path = tmp_path / "console.db"
    store = Store(path, KEEP_NS, clock)
    down = record("server_down", 0, "http", "192.168.1.1:80")
    store.take([down], POLICY, TARGETS)
    store.close()
    damage(path, table)
    store = Store(path, KEEP_NS, clock)
    assert store.last_id() == (0 if table == "event" else down.id)
    assert events(store) == ([] if table == "event" else [down])
    assert (("trouble", "server http 192.168.1.1:80") in store.history.entries) == (table != "history")
    assert waiting(store) == ([] if table == "letter" else ["a@example.org", "b@example.org"])
    assert [note for note in store.notes if "was broken" in note]
    assert not store.in_memory
    assert (tmp_path / "console.db.broken").exists()
    store.close()
    again = Store(path, KEEP_NS, clock)
    assert again.notes == []
    again.close()


def test_a_page_that_is_damaged_while_the_console_reads_it(tmp_path, store):
    down = record("server_down", 0, "http", "192.168.1.1:80")
    store.take([down], POLICY, TARGETS)
    store.query(lambda db: db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
    damage(store.path, "event")
    store.query(lambda db: db.execute("PRAGMA shrink_memory").fetchall())
    assert events(store) == []
    assert any("was broken" in note for note in store.notes)
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        store.query(lambda db: db.execute("SELECT * FROM nonsense"))
    assert store.take([down], POLICY, TARGETS) == [down]


def test_what_others_read_is_never_changed_under_them(store, clock):
    seen = []

    def note():
        seen.append((store.history, dict(store.history.entries)))

    note()
    for step in (
        lambda: store.take([record("server_down", 0, "http", "192.168.1.1:80", "web")], POLICY, TARGETS),
        lambda: store.acknowledge(Match(), "on it"),
        lambda: store.note_owners(replace(POLICY, node="lvs1"), {"web": "lvs2"}),
        lambda: store.pass_time(POLICY, TARGETS),
    ):
        clock.now_ns += 3600 * NS_PER_S
        step()
        assert store.history.entries != seen[-1][1], "it is another"
        note()
    for history, as_it_was in seen:
        assert history.entries == as_it_was


@pytest.fixture
def small_disk(tmp_path):
    """A file system with little room."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(path):
    with open(path, "wb", buffering=0) as file:
        for size in (4096, 512, 1):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)) == size:
                    pass


@pytest.mark.netns
def test_a_full_disk_stops_nothing(small_disk, clock):
    store = Store(small_disk / "console.db", KEEP_NS, clock)
    first = [record("server_down", n / 100, "http", f"10.0.0.{n}:80") for n in range(5)]
    store.take(first, POLICY, TARGETS)
    filler = small_disk / "filler"
    fill(filler)
    second = [record("server_down", 0.1 + n / 1000, "smtp", f"10.0.{n}.1:25") for n in range(200)]
    for each in second:
        assert store.take([each], POLICY, TARGETS) == [each]
    assert store.in_memory
    assert "disk is full" in store.problem
    assert len(waiting(store)) == 2 * 205
    assert store.take(first, POLICY, TARGETS) == []
    assert not store.try_file()
    filler.unlink()
    while not store.try_file():
        assert len(second) > 1
        shutil.disk_usage(small_disk)
        subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    assert store.problem == ""
    store.close()
    again = Store(small_disk / "console.db", KEEP_NS, clock)
    assert not again.in_memory
    assert events(again) == sorted([*first, *second], key=lambda one: one.time)
    assert len(waiting(again)) == 2 * 205
    again.close()


def test_a_directory_that_is_not_there(tmp_path, clock):
    store = Store(tmp_path / "none" / "console.db", KEEP_NS, clock)
    down = record("server_down")
    assert store.take([down], POLICY, TARGETS) == [down]
    assert "cannot be written" in store.problem
    (tmp_path / "none").mkdir()
    assert store.try_file()
    assert events(store) == [down]
    store.close()


KILLED = """
import sys
from pathlib import Path
from tests.unit.console.test_store import KEEP_NS, POLICY, TARGETS, Clock, Store, record
store = Store(Path(sys.argv[1]), KEEP_NS, Clock())
for number in range(int(sys.argv[2]), 10**6):
    one = record("server_down", number / 1000, "http", f"s{number}:80")
    store.take([one], POLICY, TARGETS)
    print(number, flush=True)
"""


@pytest.mark.slow
def test_killed_at_any_moment_it_has_all_that_it_showed(tmp_path, clock):
    """After each kill: every event that was confirmed is there with its letters, and none without the other."""
    path, chance, confirmed = tmp_path / "console.db", random.Random(7), -1
    clock.now_ns += 3600 * NS_PER_S
    for _ in range(8):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(path), str(confirmed + 1)], stdout=subprocess.PIPE, text=True
        )
        first = process.stdout.readline()
        time.sleep(chance.random() * 0.2)
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().split("\n")
        process.wait()
        process.stdout.close()
        confirmed = int([first.strip(), *[line for line in rest[:-1] if line]][-1])
        database = sqlite3.connect(path)
        servers = {row[0] for row in database.execute("SELECT server FROM event")}
        keys = [row[0] for row in database.execute("SELECT key FROM letter")]
        entries = database.execute(
            "SELECT count(*) FROM history WHERE CAST(key AS TEXT) LIKE '[\"trouble%'"
        ).fetchone()[0]
        database.close()
        assert servers >= {f"s{number}:80" for number in range(confirmed + 1)}
        assert len(servers) <= confirmed + 2
        assert len(keys) == 2 * len(servers)
        assert entries == len(servers)
        confirmed = len(servers) - 1
