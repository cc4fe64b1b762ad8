"""What the pages show of a status, and what a browser is sent when it changes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio

from hawatch.console.page.feed import EVENTS_GAP_S, FRESH_S, SAMPLE_S, Feed, Pace
from hawatch.console.page.guard import User
from hawatch.console.page.pages import Frame, Painter, Place, confirmation, events_page, login_form, outcome
from tests.unit.console.page.sample import Console, record, server, service, status

NASTY = "<script>alert(1)</script>"
ESCAPED = "&lt;script&gt;alert(1)&lt;/script&gt;"


class Stage:
    """A feed that is asked to be fresh by hand."""

    def __init__(self, directory):
        self.console = Console(directory)
        self.feed = Feed(self.console)

    async def show(self, **more):
        self.console.told = status(**more)
        await self.feed._refresh()

    async def page(self, place=Place(), *, act=False):  # noqa: B008
        painter = Painter(self.feed, act=act)
        return await (painter.service(place) if place.service else painter.first(place))

    async def changes(self, stamp, place=Place()):  # noqa: B008
        return await Painter(self.feed, act=False).changes(place, stamp)


@pytest.fixture
def stage(tmp_path):
    made = Stage(tmp_path)
    yield made
    made.console.store.close()


async def test_the_first_page(stage):
    stage.feed.note([record(service="http", server="192.0.2.2:80")])
    await stage.show()
    page = await stage.page()
    for words in ("All is well: 2 of 2 servers up", "lvs1 renewed its lease", "10.99.0.2", "192.0.2.110/32", "epoch 4",
                  "weight 1", "12 conn.", "7/s 2.5MB/s", "0.8 ms", "server_down", 'href="/service/http"'):  # fmt: skip
        assert words in page
    assert "<button" not in page
    acting = await stage.page(act=True)
    for words in ("drain http 192.0.2.1:80", "switchover web lvs2", "giveaway"):
        assert f'value="{words}"' in acting
    assert 'value="resume"' not in acting


async def test_what_others_say_is_escaped_everywhere(stage):
    stage.feed.note([record(service="http", server=NASTY, reason=NASTY, group=NASTY)])
    await stage.show(
        services=[service(server(state="down", reason=NASTY), state="down", reason=NASTY)],
        groups=[{"name": "web", "state": "owner", "owner": NASTY, "reason": NASTY, "addresses": [NASTY]}],
        directors=[{"name": "lvs2", "state": NASTY, "reason": NASTY, "links": [{"address": NASTY, "state": NASTY}]}],
        warnings=[NASTY], quorum={"mode": NASTY, "reason": NASTY},
        workers=[{"name": NASTY, "state": "lost", "reason": NASTY}],
    )  # fmt: skip
    parts = [
        await stage.page(act=True),
        await stage.page(Place("http"), act=True),
        *(entry.render() for entry in Painter(stage.feed, act=True).entries(Place())),
    ]
    parts += [confirmation(NASTY, NASTY, [NASTY], NASTY, NASTY, note=True), outcome(NASTY, [NASTY], done=False),
              login_form(NASTY), events_page([record(reason=NASTY)], {"service": NASTY}, NASTY)]  # fmt: skip
    assert all("<script" not in part for part in parts)
    assert all(ESCAPED in part for part in parts[:2])


async def test_only_what_changed_is_sent(stage):
    await stage.show()
    since = stage.feed.board.stamp
    assert await stage.changes(since) == {}
    await stage.show(
        services=[service(server(active=13, inactive=3, connections_per_s=7, bytes_in_per_s=1500,
                                 bytes_out_per_s=2_500_000, latency_ms=0.84), server("192.0.2.2", active=0))]
    )  # fmt: skip
    assert sorted(await stage.changes(since)) == ["srv:http:192.0.2.1:80", "svc:http"]
    assert await stage.changes(stage.feed.board.stamp) == {}
    stage.feed.note([record(service="http")])
    await stage.show()
    assert "events" in await stage.changes(since)
    assert "events:http" in await stage.changes(since, Place("http"))


async def test_servers_that_come_and_go_bring_their_block(stage):
    await stage.show()
    since = stage.feed.board.stamp
    await stage.show(services=[service(server(), server("192.0.2.2", active=0), server("192.0.2.3"))])
    changed = await stage.changes(since)
    assert "shown:http" in changed
    assert "192.0.2.3:80" in changed["shown:http"]
    assert not any(key.startswith(("srv:", "svc:")) for key in changed), "it is in its block"
    await stage.show(services=[])
    assert await stage.changes(since) is None, "another page"
    assert await stage.changes(stage.feed.board.stamp, Place("http")) is None


async def test_a_large_site_shows_what_is_not_up(stage):
    many = [service(*(server(f"192.0.2.{number + 1}") for number in range(100)), server("192.0.2.200", "down"))]
    await stage.show(services=many)
    page = await stage.page()
    assert "192.0.2.200:80" in page
    assert "192.0.2.50:80" not in page
    assert "100 more servers" in page
    assert "192.0.2.50:80" in await stage.page(Place(every=True))
    assert "192.0.2.50:80" in await stage.page(Place("http"))


async def test_a_core_that_does_not_answer_is_said(stage):
    await stage.show()
    await stage.feed._refresh()
    assert "The core has not answered since" in await stage.page()
    stage.console.told = status(uptime_s=9)
    await stage.feed._refresh()
    assert "has not answered" not in await stage.page()
    stage.console.told = None
    await stage.feed._refresh()
    assert "All is well" in await stage.page(), "what was known stays"


async def test_graphs_are_drawn(stage):
    await stage.show()
    page = await stage.page(Place("http"))
    assert "connections, last hour: at most 12, now 12" in page
    assert "bytes/s in, last day" in page
    assert 'aria-label="connections, last hour, at most 12"' in page
    assert "style=" not in page


async def test_a_long_page_gives_way(stage):
    await stage.show(services=[service(server(), name=f"s{number}") for number in range(100)])
    turns = 0

    async def others():
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(others)
        first = stage.feed.board.stamp
        await stage.page()
        assert turns >= 5
        await stage.show(services=[service(server(active=5), name=f"s{number}") for number in range(100)])
        turns = 0
        assert len(await stage.changes(first)) >= 100
        assert turns >= 5
        nursery.cancel_scope.cancel()


async def test_a_new_console_knows_the_journal(stage):
    old, new = record(number=1, time="2026-01-01T00:00:00.000Z"), record(number=2, reason="new")
    stage.console.store.take([old, new], stage.console.policy, {})
    stage.feed.note([new])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stage.feed.run)
        with trio.fail_after(60):
            while stage.feed.view is None:
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    assert [each.id for each in stage.feed.events][-1] == 2
    assert len({each.id for each in stage.feed.events}) == len(stage.feed.events)


async def test_nobody_looks_and_the_core_is_left_alone(stage):
    assert stage.feed._pause_s() == SAMPLE_S
    stage.feed.look()
    assert stage.feed._pause_s() == FRESH_S


def test_a_storm_is_slowed_down_and_nothing_else_is():
    pace = Pace(0.2, 4)
    assert [pace.wait_s(now_s) for now_s in (10.0, 11.0, 12.0)] == [0, 0, 0]
    now_s, times = 20.0, []
    for _ in range(10):
        now_s += pace.wait_s(now_s)
        times.append(round(now_s - 20.0, 3))
    assert times == [0, 0, 0, 0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2]


async def test_an_event_is_shown_without_a_look(stage, autojump_clock):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stage.feed.run)
        while stage.feed.view is None:
            await trio.sleep(0.01)
        stage.console.fresh_status = trio.sleep_forever  # a core that is busy
        stamp, began = stage.feed.board.stamp, trio.current_time()
        stage.feed.note([record(service="http", number=5)])
        await stage.feed.wait_change()
        assert trio.current_time() - began < EVENTS_GAP_S
        assert sorted(await stage.changes(stamp)) == ["events"]
        assert sorted(await stage.changes(stamp, Place("http"))) == ["events:http"]
        nursery.cancel_scope.cancel()


async def test_what_is_wrong_comes_first(stage):
    await stage.show()
    assert "To see to" not in await stage.page()
    stamp = stage.feed.board.stamp
    await stage.show(services=[service(server(), server("192.0.2.2", "down", reason=NASTY))])
    changed = (await stage.changes(stamp))["now"]
    assert "Server 192.0.2.2:80 of http: down" in changed
    assert ESCAPED in changed
    assert "<button" not in changed
    assert 'value="ack http 192.0.2.2:80"' in await stage.page(act=True)


async def test_a_site_without_services(stage):
    await stage.show(services=[])
    assert "There is no service" in await stage.page()


def test_the_frame():
    frame = Frame("lvs1", "epn", User(NASTY, acts=True), True, NASTY, "b.1", "/s.css", "/p.js", "/")
    page = frame.page(NASTY, login_form("")).decode()
    assert "<script>" not in page
    assert "Log out" in page
    assert 'action="/logout"' in page
    nobody = Frame("lvs1", "epn", None, True, "", "", "/s.css", "/p.js").page("x", login_form("")).decode()
    assert 'href="/login"' in nobody
    assert "data-live" not in nobody
    assert "refresh" not in nobody
    again = replace(frame, again_s=5).page("x", login_form("")).decode()
    assert '<meta http-equiv="refresh" content="5">' in again
