"""The answers over a real socket."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import pytest
import trio

from hawatch.agent.messages import ConsoleMessage
from hawatch.agent.settings import Settings
from hawatch.console import exposition
from hawatch.console.measures import MeasureKeeper
from hawatch.console.metrics import answer
from hawatch.console.shelf import Shelf
from hawatch.console.store import Store
from tests.unit.agent.keeper_site import settings
from tests.unit.console.numbers import PLAN, measures


class Console:
    def __init__(self, directory):
        self.settings = settings()
        self.linked, self.taken, self.waiting, self.scrapes = True, Counter({"server_up": 7}), 0, 0
        self.delivery = SimpleNamespace(targets={"email/ops": None}, sent={"email/ops": 3}, failures={})
        self.shelf = Shelf(Store(directory / "console.db", 10**18, lambda: 10**18))
        self.measures = MeasureKeeper(self.send, lambda: False)
        self.measures_text = exposition.Text()

    def send(self, message: ConsoleMessage) -> None:
        raise AssertionError("there is no core")


@pytest.fixture
def console(tmp_path):
    made = Console(tmp_path)
    yield made
    made.shelf.store.close()


async def test_others_have_their_turn_while_the_text_is_made(console, monkeypatch):
    console.settings = Settings(console.settings.config, PLAN, "lvs1", "", console.settings.places)
    found, turns = measures(many=300), 0
    monkeypatch.setattr(exposition, "WORK_S", 0.0)

    async def fresh():
        return found

    async def others():
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    console.measures.fresh = fresh
    async with trio.open_nursery() as nursery:
        nursery.start_soon(others)
        text = await exposition.exposition(console)
        nursery.cancel_scope.cancel()
    assert text.count(b"hawatch_ipvs_server_connections_total{") == 301
    assert turns > 300


async def test_who_asks_at_the_same_time_gets_the_same(console):
    found, texts = measures(), []

    async def fresh():
        return found

    async def ask():
        texts.append(await exposition.exposition(console))

    console.measures.fresh = fresh
    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(ask)
    assert (len(texts), len(set(map(id, texts))), console.scrapes) == (50, 1, 1)
    found = measures()
    await ask()
    assert console.scrapes == 2


async def test_without_a_core(console):
    status, _, body = await answer(console, "/metrics")
    assert status == 200
    for line in (
        "hawatch_core_up 0.0",
        'hawatch_alerts_sent_total{alert="email/ops"} 3.0',
        'hawatch_events_total{name="server_up"} 7.0',
        "hawatch_journal_on_disk 1.0",
        "hawatch_console_scrapes_total 1.0",
    ):
        assert line in body.decode()
    assert (await answer(console, "/readyz"))[::2] == (503, b"the core does not answer\n")
    console.linked = False
    assert (await answer(console, "/livez"))[0] == 200
    assert (await answer(console, "/readyz"))[::2] == (503, b"no channel to the core\n")
    assert (await answer(console, "/"))[0] == 404
