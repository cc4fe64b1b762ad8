from __future__ import annotations

import io
import os
import shutil
from pathlib import Path

import msgspec

from hawatch.agent.events import EventLog, EventWriter, Record, iso_time, make_record, read_after, read_back
from hawatch.model import Event, Severity

NOW = 1_767_225_600_123_456_789


def log(limit: int = 10) -> EventLog:
    return EventLog("lvs1", lambda: NOW, limit)


def records(count: int, start: int = 0) -> list[Record]:
    return [make_record(Event(f"e{number}", ""), "lvs1", NOW) for number in range(start, start + count)]


def names(found: list[Record]) -> list[str]:
    return [record.name for record in found]


def test_a_record_has_what_the_event_has() -> None:
    event = Event("server_down", "connection refused", Severity.WARNING, "web", "http", "192.0.2.1:80", {"runs": 3})
    assert msgspec.json.decode(msgspec.json.encode(make_record(event, "lvs1", NOW))) == {
        "time": "2026-01-01T00:00:00.123Z", "name": "server_down", "severity": "warning", "node": "lvs1",
        "reason": "connection refused", "group": "web", "service": "http", "server": "192.0.2.1:80",
        "numbers": {"runs": 3},
    }  # fmt: skip


def numbered(count: int, start: int = 1) -> list[Record]:
    return [make_record(Event(f"e{number}", ""), "lvs1", NOW, number) for number in range(start, start + count)]


def test_what_came_after_an_event_is_read_in_parts(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    line = len(msgspec.json.encode(numbered(1, 500)[0])) + 1
    writer = EventWriter(path, io.StringIO(), file_limit=600 * line)
    for record in numbered(1000):
        writer.write(record)
    writer.close(10)
    assert writer.settled_id == 1000
    kept = [record.id for part in read_after(path, 0, 10_000) for record in part]
    assert kept == list(range(kept[0], 1001))
    assert kept[0] < 600 < kept[-1], "both files have something"
    for last in (kept[0], 599, 600, 601, 602, 603, 999):
        parts = list(read_after(path, last, 7))
        assert [record.id for part in parts for record in part] == list(range(last + 1, 1001))
        assert all(len(part) <= 7 for part in parts)
    assert list(read_after(path, 1000, 7)) == []


def test_after_an_event_that_is_not_there_comes_everything(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"".join(msgspec.json.encode(each) + b"\n" for each in numbered(3)) + b'{"broken": ')
    assert [record.id for part in read_after(path, 99, 2) for record in part] == [1, 2, 3]
    assert list(read_after(tmp_path / "none", 1, 2)) == []


def test_a_file_that_is_put_aside_while_it_is_read_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"".join(msgspec.json.encode(each) + b"\n" for each in numbered(300)))
    parts = read_after(path, 100, 50)
    found = [record.id for record in next(parts)]
    path.replace(tmp_path / "events.jsonl.1")
    path.write_bytes(msgspec.json.encode(numbered(1, 301)[0]) + b"\n")
    found += [record.id for part in parts for record in part]
    assert found == list(range(101, 301))


def test_time_does_not_round_up() -> None:
    assert iso_time(999_999_999) == "1970-01-01T00:00:00.999Z"


def test_memory_is_bounded_and_newest_is_last() -> None:
    events = log(limit=3)
    events.emit([Event(f"e{number}", "") for number in range(5)])
    assert names(events.last(10)) == ["e2", "e3", "e4"]
    assert names(events.last(1)) == ["e4"]
    assert events.last(0) == []


def test_earlier_records_go_before() -> None:
    events = log(limit=3)
    events.emit([Event("new", "")])
    events.put_before(records(5))
    assert names(events.last(10)) == ["e3", "e4", "new"]
    events.put_before(records(5))
    assert names(events.last(10)) == ["e3", "e4", "new"]


def test_listeners_hear_until_they_forget() -> None:
    events, heard = log(), []
    forget = events.listen(heard.append)
    events.emit([Event("a", "")])
    forget()
    forget()
    events.emit([Event("b", "")])
    assert names(heard) == ["a"]


def test_written_is_read_back(tmp_path: Path) -> None:
    path, output = tmp_path / "state/events.jsonl", io.StringIO()
    writer = EventWriter(path, output)
    for record in records(20):
        writer.write(record)
    writer.close(10)
    assert read_back(path) == records(20)
    assert names(read_back(path, limit=2)) == ["e18", "e19"]
    assert len(output.getvalue().splitlines()) == 20
    again = EventWriter(path, output)
    assert again.wait_earlier() == records(20)
    again.close(10)


def test_the_file_is_bounded_and_what_was_put_aside_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    writer = EventWriter(path, io.StringIO(), file_limit=1000)
    for record in records(100):
        writer.write(record)
    writer.close(10)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["events.jsonl", "events.jsonl.1"]
    assert all(each.stat().st_size <= 1000 for each in tmp_path.iterdir())
    found = names(read_back(path))
    assert found[-1] == "e99"
    assert found == [f"e{number}" for number in range(100 - len(found), 100)]


def test_lines_that_are_no_record_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    good = msgspec.json.encode(records(1)[0])
    path.write_bytes(b"{}\n" + good + b"\nrubbish\n\xff\n" + good[:20])
    assert names(read_back(path)) == ["e0"]
    writer = EventWriter(path, io.StringIO())
    writer.write(records(1, 1)[0])
    writer.close(10)
    assert names(read_back(path)) == ["e0", "e1"]


def test_a_disk_that_takes_nothing_is_a_problem_and_no_stop(tmp_path: Path) -> None:
    """/dev/full answers every write as a full disk does."""
    full = tmp_path / "events.jsonl"
    full.symlink_to("/dev/full")
    output = io.StringIO()
    writer = EventWriter(full, output)
    for record in records(5):
        writer.write(record)
    writer.close(10)
    assert "No space left" in writer.problem
    assert writer.lost == 5
    assert len(output.getvalue().splitlines()) == 5


def test_room_again_ends_the_problem(tmp_path: Path) -> None:
    path, output = tmp_path / "dir" / "events.jsonl", io.StringIO()
    path.parent.write_text("a file where a directory should be")
    writer = EventWriter(path, output)
    writer.write(records(1)[0])
    while not writer.problem:
        os.sched_yield()
    path.parent.unlink()
    writer.write(records(1, 1)[0])
    writer.close(10)
    assert writer.problem == ""
    assert writer.lost == 1
    assert names(read_back(path)) == ["e1"]


def test_an_output_that_is_gone_does_not_stop_the_file(tmp_path: Path) -> None:
    output = io.StringIO()
    output.close()
    writer = EventWriter(tmp_path / "events.jsonl", output)
    for record in records(3):
        writer.write(record)
    writer.close(10)
    assert len(read_back(tmp_path / "events.jsonl")) == 3


def test_a_file_or_folder_that_was_removed_is_made_anew(tmp_path: Path) -> None:
    path, output = tmp_path / "dir" / "events.jsonl", io.StringIO()
    writer = EventWriter(path, output)
    for number, remove in enumerate((path.unlink, lambda: shutil.rmtree(path.parent), lambda: None)):
        writer.write(records(1, number)[0])
        while len(output.getvalue().splitlines()) <= number or names(read_back(path)) != [f"e{number}"]:
            os.sched_yield()
        remove()
    writer.close(10)
    assert names(read_back(path)) == ["e2"]
    assert writer.lost == 0
