from __future__ import annotations

import math
import sqlite3
from array import array

import pytest

from hawatch.console.page.graph_store import GraphStore, pack, unpack
from hawatch.console.page.graphs import DAY, HOUR, History


def load(path):
    history = History()
    GraphStore(path).load(history)
    return history


def test_a_new_console_goes_on(tmp_path):
    store = GraphStore(tmp_path / "graphs.db")
    store.load(History())
    store.save({"a": 0}, [(HOUR, 100, array("f", [1.5]))])
    store.save({"a": 0, "b": 1}, [(HOUR, 101, array("f", [2.5, float("nan")])), (DAY, 5, array("f", [9.0]))])
    history = load(tmp_path / "graphs.db")
    assert history.numbers == {"a": 0, "b": 1}
    assert history.series("a", HOUR, 101 * 30 * 10**9)[-2:] == [1.5, 2.5]
    assert all(map(math.isnan, history.series("b", HOUR, 101 * 30 * 10**9)))


def test_old_rows_go(tmp_path):
    store = GraphStore(tmp_path / "graphs.db")
    for slot in range(HOUR.slots + 50):
        store.save({"a": 0}, [(HOUR, slot, array("f", [1.0]))])
    with sqlite3.connect(tmp_path / "graphs.db") as database:
        assert database.execute("SELECT count(*) FROM slot").fetchone() == (HOUR.slots,)
    database.close()


@pytest.mark.parametrize("break_", [b"no database, but long enough to be read as one" * 30, b""])
def test_a_broken_file_is_begun_anew(tmp_path, break_, capsys):
    path = tmp_path / "graphs.db"
    path.write_bytes(break_)
    store, history = GraphStore(path), History()
    store.load(history)
    assert history.numbers == {}
    store.save({"a": 0}, [(HOUR, 1, array("f", [1.0]))])
    assert load(path).numbers == {"a": 0}
    assert ("lose their past" in capsys.readouterr().err) is bool(break_)


def test_a_row_that_is_none(tmp_path, capsys):
    path = tmp_path / "graphs.db"
    GraphStore(path).save({"a": 0}, [(HOUR, 1, array("f", [1.0]))])
    with sqlite3.connect(path) as database:
        database.execute("UPDATE slot SET body = 'x'")
    database.close()
    assert load(path).numbers == {}
    assert "lose their past" in capsys.readouterr().err


def test_a_place_that_cannot_be_written_costs_nothing_else(tmp_path, capsys):
    store = GraphStore(tmp_path / "none" / "graphs.db")
    store.load(History())
    store.save({"a": 0}, [(HOUR, 1, array("f", [1.0]))])
    assert capsys.readouterr().err.count("\n") == 1


def test_rows_are_small_and_bounded():
    row = array("f", [float("nan")] * 6000)
    assert len(pack(row)) < 200
    assert len(unpack(pack(row))) == 6000
    assert len(unpack(pack(array("f", [0.0] * 1_000_000)))) <= 12_000
