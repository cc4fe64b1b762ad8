"""The answers over a real socket."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import pytest

from hawatch.agent.messages import ConsoleMessage
from hawatch.console.measures import MeasureKeeper
from hawatch.console.metrics import answer
from hawatch.console.shelf import Shelf
from hawatch.console.store import Store
from tests.unit.agent.keeper_site import settings


class Console:
    def __init__(self, directory):
        self.settings = settings()
        self.linked, self.taken, self.waiting, self.scrapes = True, Counter({"server_up": 7}), 0, 0
        self.delivery = SimpleNamespace(targets={"email/ops": None}, sent={"email/ops": 3}, failures={})
        self.shelf = Shelf(Store(directory / "console.db", 10**18, lambda: 10**18))
        self.measures = MeasureKeeper(self.send, lambda: False)

    def send(self, message: ConsoleMessage) -> None:
        raise AssertionError("there is no core")


@pytest.fixture
def console(tmp_path):
    made = Console(tmp_path)
    yield made
    made.shelf.store.close()


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
