"""The event stream of an agent: a bounded memory of what happened, and a thread that writes it down.

Nothing here ever waits for a disk or a pipe on the caller's side. What cannot be written is counted, and status
says so; the agent goes on.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import msgspec

from hawatch.decoding import UNDECODABLE
from hawatch.model import NS_PER_S, Event

MEMORY_LIMIT = 4_000
"""Events kept in memory for `hawatch ctl events`."""
QUEUE_LIMIT = 10_000
"""Events that wait for the writer at most."""
FILE_LIMIT = 16 << 20
"""Bytes of the events file before it is put aside as `.1`, replacing the one before."""
TAIL_LIMIT = 8 << 20
"""Bytes read back at start, at most, from each of the two files."""


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """An event as it is written and shown: one JSON object a line."""

    time: str
    """ISO 8601 in UTC with milliseconds."""
    name: str
    severity: str
    node: str
    reason: str
    group: str = ""
    service: str = ""
    server: str = ""
    numbers: dict[str, int | float | str] = {}
    id: int = 0
    """Its own number on this node, growing: nanoseconds of the wall clock, or one more than the one before."""


def iso_time(wall_ns: int) -> str:
    """Return an instant as people and programs read it: 2026-01-01T00:00:00.000Z."""
    seconds, rest_ns = divmod(wall_ns, NS_PER_S)
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest_ns // 1_000_000:03d}Z"


def make_record(event: Event, node: str, wall_ns: int, number: int = 0) -> Record:
    """Return the record of an event that happens now on this node; `number` is its own."""
    return Record(
        time=iso_time(wall_ns),
        name=event.name,
        severity=str(event.severity),
        node=node,
        reason=event.reason,
        group=event.group,
        service=event.service,
        server=event.server,
        numbers=dict(event.numbers),
        id=number,
    )


class EventLog:
    """What happened, newest last, in memory; hands every new record to its listeners."""

    def __init__(self, node: str, wall_clock: Callable[[], int], limit: int = MEMORY_LIMIT) -> None:
        self.node = node
        self._wall_clock = wall_clock
        self._records: deque[Record] = deque(maxlen=limit)
        self._listeners: list[Callable[[Record], None]] = []
        self._last_id = 0
        self.emitted = 0
        """Events that happened in this process."""

    @property
    def last_id(self) -> int:
        """Number of the last event that happened in this process, 0 for none."""
        return self._last_id

    def emit(self, events: Iterable[Event]) -> None:
        """Remember events that happen now and tell every listener of them. Listeners must not wait or raise."""
        for event in events:
            wall = self._wall_clock()
            self._last_id = max(wall, self._last_id + 1)
            record = make_record(event, self.node, wall, self._last_id)
            self._records.append(record)
            self.emitted += 1
            for listener in list(self._listeners):
                listener(record)

    def put_before(self, earlier: Iterable[Record]) -> None:
        """Put what an earlier process wrote before what is in memory, as far as there is room."""
        room = (self._records.maxlen or 0) - len(self._records)
        kept = list(earlier)[-room:] if room > 0 else []
        self._records.extendleft(reversed(kept))

    def last(self, count: int) -> list[Record]:
        """Return the newest `count` records, newest last."""
        assert count >= 0, count
        return list(itertools.islice(reversed(self._records), count))[::-1]

    def __len__(self) -> int:
        return len(self._records)

    def listen(self, listener: Callable[[Record], None]) -> Callable[[], None]:
        """Tell `listener` of every event from now on; return what ends that."""
        self._listeners.append(listener)

        def forget() -> None:
            with contextlib.suppress(ValueError):
                self._listeners.remove(listener)

        return forget


class EventWriter:
    """A thread that writes records to a bounded file and to standard output."""

    def __init__(self, path: Path, output: IO[str] | None = None, file_limit: int = FILE_LIMIT) -> None:
        self.problem = ""
        """What is wrong with the events file now; "" when all is well."""
        self.lost = 0
        """Records that were not written to the file since the start."""
        self.settled_id = 0
        """Number of the newest record that is in the file, or known not to be."""
        self._path = path
        self._output: IO[str] | None = sys.stdout if output is None else output
        self._file_limit = file_limit
        self._file: IO[bytes] | None = None
        self._size = 0
        self._queue: queue.Queue[Record | None] = queue.Queue(QUEUE_LIMIT)
        self._earlier: list[Record] = []
        self._read_back = threading.Event()
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)
        self._thread.start()

    def wait_earlier(self) -> list[Record]:
        """Wait for what earlier processes wrote, and return it."""
        self._read_back.wait()
        return self._earlier

    def write(self, record: Record) -> None:
        """Hand a record to the thread; when too many wait, it is counted as lost."""
        try:
            self._queue.put_nowait(record)
        except queue.Full:
            self.lost += 1
            self.problem = f"{QUEUE_LIMIT} events wait to be written; {self.lost} were not written"

    def close(self, limit_s: float) -> None:
        """Write what waits, for so long at most, and end the thread."""
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=limit_s)
        self._thread.join(limit_s)

    def _run(self) -> None:
        encoder = msgspec.json.Encoder()
        self._earlier = read_back(self._path)
        self._read_back.set()
        while (record := self._queue.get()) is not None:
            line = encoder.encode(record) + b"\n"
            self._write_output(line)
            try:
                self._write_file(line)
            except OSError as error:
                self.lost += 1
                self.problem = f"{self._path}: {error.strerror or error}; {self.lost} events are not in it"
                self._close_file()
            self.settled_id = record.id
        self._close_file()

    def _write_output(self, line: bytes) -> None:
        if self._output is None:
            return
        try:
            self._output.write(line.decode())
            self._output.flush()
        except (OSError, ValueError):
            self._output = None  # nobody reads it any more

    def _write_file(self, line: bytes) -> None:
        if self._file is not None and os.fstat(self._file.fileno()).st_nlink == 0:
            self._close_file()  # somebody has removed it, or the folder: what is written would be gone with it
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self._path, "ab", buffering=0)  # noqa: SIM115 - closed by _close_file
            self._size = self._file.tell()
            if self._size and not _ends_with_newline(self._path):
                line = b"\n" + line
        if self._size + len(line) > self._file_limit and self._size:
            self._close_file()
            self._path.replace(self._path.with_name(self._path.name + ".1"))
            self._write_file(line.lstrip(b"\n"))
            return
        written = self._file.write(line)
        self._size += written
        if written < len(line):
            raise OSError(f"only {written} of {len(line)} bytes written")
        self.problem = ""

    def _close_file(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None


def _ends_with_newline(path: Path) -> bool:
    """Tell whether a file that is not empty ends as a line should: a full disk cuts lines short."""
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def read_back(path: Path, limit: int = MEMORY_LIMIT) -> list[Record]:
    """Return the newest records of an events file and of the one put aside; lines that are none are passed over."""
    decoder = msgspec.json.Decoder(Record)
    records: list[Record] = []
    for each in (path.with_name(path.name + ".1"), path):
        for line in _tail(each):
            with contextlib.suppress(*UNDECODABLE):
                records.append(decoder.decode(line))
    return records[-limit:]


def read_after(path: Path, number: int, count: int) -> Generator[list[Record], None, None]:
    """Yield what an events file and the one put aside have after the event with this number, `count` records at once.

    Everything, where they do not have that event: numbers go back where the clock did. Never more than `count`
    records are in memory.
    """
    decoder = msgspec.json.Decoder(Record)
    with contextlib.ExitStack() as stack:
        files = _open_both(path, stack)
        mark = f'"id":{number}}}'.encode() if number else b""
        place = next((index for index, file in enumerate(files) if mark and _find_line(file, mark)), None)
        if place is None:
            place = 0
            for file in files:
                file.seek(0)
        records: list[Record] = []
        for file in files[place:]:
            for line in file:
                with contextlib.suppress(*UNDECODABLE):
                    records.append(decoder.decode(line))
                if len(records) == count:
                    yield records
                    records = []
        if records:
            yield records


def _open_both(path: Path, stack: contextlib.ExitStack) -> list[IO[bytes]]:
    """Open the file put aside and the current one, older first, each once though one becomes the other meanwhile."""
    opened: dict[tuple[int, int], IO[bytes]] = {}
    for each in (path, path.with_name(path.name + ".1")):  # what is put aside in between is found under both names
        with contextlib.suppress(OSError):
            file = stack.enter_context(each.open("rb"))
            status = os.fstat(file.fileno())
            opened.setdefault((status.st_dev, status.st_ino), file)
    return list(opened.values())[::-1]


def _find_line(file: IO[bytes], mark: bytes) -> bool:
    """Go to the line after the last one that ends with a mark; False where there is none."""
    end = -1
    for line in file:
        if line.rstrip().endswith(mark):
            end = file.tell()
    if end >= 0:
        file.seek(end)
    return end >= 0


def _tail(path: Path) -> list[bytes]:
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_LIMIT))
            lines = file.read(TAIL_LIMIT).splitlines()
    except OSError:
        return []
    return lines[1:] if size > TAIL_LIMIT else lines
