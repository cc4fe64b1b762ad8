"""Views taken apart: what is made anew, and what serves again."""

from __future__ import annotations

import pytest

from hawatch.console.page.board import Board
from hawatch.console.page.pieces import ALL_SHOWN_MAX, EVENTS_SHOWN, SERVERS_MAX, PieceMaker, event_pieces
from hawatch.console.page.render import head
from tests.unit.console.page.sample import record, server, service, view


def site(count=2, **more):
    return view(services=[service(server(), server("192.0.2.2", **more), name=f"s{number}") for number in range(count)])


@pytest.mark.parametrize("more", [{}, {"state": "down"}, {"active": 5}, {"reason": "x"}])
def test_what_serves_again_is_what_would_be_made(more):
    maker = PieceMaker()
    maker.make(site(), [], 1, "")
    changed = view(services=[*(service(server(), server("192.0.2.2", **more), name="s0"),
                                                     service(server(), server("192.0.2.2"), name="s1"))])  # fmt: skip
    assert maker.make(changed, [], 2, "") == PieceMaker().make(changed, [], 2, "")


def test_a_service_that_looks_the_same_is_not_made_anew():
    maker, board = PieceMaker(), Board("b")
    board.put(maker.make(site(), [], 1, ""))
    before = {key: board.get(key) for key in ("srv:s0:192.0.2.1:80", "svc:s0", "every:s1")}
    assert not board.put(maker.make(site(), [], 1, ""))
    board.put(maker.make(site(reason="other"), [], 1, ""))
    assert board.get("srv:s0:192.0.2.1:80") is before["srv:s0:192.0.2.1:80"]
    assert board.put(maker.make(site(), [], 2, "")), "another sample"


def test_a_site_that_grows_shows_less_of_each():
    maker = PieceMaker()
    assert len(maker.make(site(2), [], 1, "")["shown:s0"]) == 2
    large = maker.make(site(ALL_SHOWN_MAX // 2 + 1), [], 1, "")
    assert large["shown:s0"] == ()
    assert len(large["every:s0"]) == 2


def test_a_site_that_is_too_large_for_a_page_is_cut_and_the_page_says_so():
    """A hundred services with 250 servers each, as the limits of the configuration allow."""
    servers = [server(f"192.0.2.{number}", state="down") for number in range(250)]
    huge = view(services=[service(*servers, name=f"s{number}") for number in range(100)])
    maker, board = PieceMaker(), Board("b")
    assert board.put(maker.make(huge, [], 1, ""))
    rows = [key for key in maker.make(huge, [], 1, "") if key.startswith("srv:")]
    assert len(rows) == SERVERS_MAX
    assert (board.get("svc:s99").count, board.get("every:s99"), board.get("shown:s99")) == (250, (), ())
    assert board.get("head").left_out == 25_000 - SERVERS_MAX
    assert "5000 servers more than a page can hold" in head(board.get("head"), "lvs1")
    assert "more than a page" not in head(maker.make(site(), [], 1, "")["head"], "lvs1")


def test_events_go_to_their_services():
    events = [record(number=number, service=f"s{number % 2}") for number in range(100)] + [record(number=100)]
    found = event_pieces(events)
    assert [each.id for each in found["events"]] == list(range(101 - EVENTS_SHOWN, 101))
    assert {each.service for each in found["events:s1"]} == {"s1"}
    assert len(found["events:s1"]) == EVENTS_SHOWN
    assert PieceMaker().make(site(), events, 1, "")["events:s0"] == found["events:s0"]
