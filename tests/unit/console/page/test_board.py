from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hawatch.console.page.board import Board


def test_versions():
    board = Board("b1")
    assert board.put({"a": 1, "b": 2})
    assert not board.put({"a": 1, "b": 2})
    assert board.put({"a": 1, "b": 3})
    assert board.newer(("a", "b", "none"), 1) == ["b"]
    assert board.put({"a": 1}), "one is gone"
    assert (board.get("b"), board.get("a")) == (None, 1)
    assert board.stamp == "b1.3"


def test_some_pieces_alone():
    board = Board("b1")
    board.put({"a": 1, "b": 2})
    before = board.copy()
    assert not board.patch({"a": 1, "none": 5})
    assert board.patch({"a": 7, "none": 5})
    assert (board.get("a"), board.get("b"), board.get("none"), board.stamp) == (7, 2, None, "b1.2")
    assert (before.get("a"), before.stamp, before.newer("ab", 1)) == (1, "b1.1", [])


def test_stamps():
    board = Board("b1")
    board.put({"a": 1})
    known = {stamp: board.since(stamp) for stamp in ("b1.1", "b1.0", "b1.2", "b2.1", "", "b1.x", "b1.-1", "b1.²", "1")}
    assert known == {"b1.1": 1, "b1.0": 0} | dict.fromkeys(("b1.2", "b2.1", "", "b1.x", "b1.-1", "b1.²", "1"))


@given(st.lists(st.dictionaries(st.sampled_from("abcd"), st.integers(0, 2))), st.data())
def test_who_takes_every_change_has_everything(boards, data):
    """A browser that asks now and then, from whatever version it has, shows what the board has."""
    board, shown, version = Board("x"), {}, 0
    for pieces in boards:
        board.put(pieces)
        if pieces and data.draw(st.booleans()):
            pieces |= {data.draw(st.sampled_from(sorted(pieces))): 3}
            board.patch(pieces | {"e": 4})
        if data.draw(st.booleans()):
            shown = {key: shown.get(key) for key in pieces}  # what is gone, the page's own layout takes away
            shown |= {key: board.get(key) for key in board.newer(pieces, version)}
            version = board.version
            assert shown == pieces
