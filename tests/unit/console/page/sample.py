"""A status to draw, and a console without a core that tells it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

from hawatch.agent.events import Record
from hawatch.agent.places import Places
from hawatch.agent.settings import Settings
from hawatch.config.load import load_text
from hawatch.console.exposition import Text
from hawatch.console.measures import MeasureKeeper
from hawatch.console.rules import Policy
from hawatch.console.shelf import Shelf
from hawatch.console.store import Store
from hawatch.control.view import View, read_view
from hawatch.model import Plan

SINCE = "2026-01-01T00:00:00Z"


def server(address="192.0.2.1", state="up", **more):
    return {"address": address, "port": 80, "state": state, "weight": 1, "reason": "", "since": SINCE, **more}


def status(**more):
    return {
        "cluster": "epn", "node": "lvs1", "version": "0.1.0", "time": "2026-01-01T01:00:00Z", "uptime_s": 3700,
        "quorum": {"mode": "witness", "held": True, "acceptors": 3, "reachable": 3, "reason": "3 of 3 nodes answer"},
        "directors": [{"name": "lvs2", "state": "alive", "links": [{"address": "10.99.0.2", "state": "up"}]}],
        "witnesses": [{"name": "rs1", "state": "alive", "links": [{"address": "10.99.0.3", "state": "up"}]}],
        "groups": [{"name": "web", "state": "owner", "owner": "lvs1", "epoch": 4, "gate": "nftables",
                    "addresses": ["192.0.2.110/32"], "reason": "lvs1 renewed its lease"}],
        "services": [{"name": "http", "group": "web", "address": "192.0.2.110", "port": 80, "protocol": "tcp",
                      "scheduler": "wlc", "state": "up", "reason": "",
                      "servers": [server(active=12, inactive=3, connections_per_s=7, bytes_in_per_s=1500,
                                         bytes_out_per_s=2_500_000, latency_ms=0.84),
                                  server("192.0.2.2", active=0)]}],
        "workers": [{"name": "core", "state": "running", "pid": 1, "restarts": 0}],
        "warnings": [],
        "unheard_of": {"later": 1},
        **more,
    }  # fmt: skip


def view(**more) -> View:
    found = read_view(json.dumps(status(**more)).encode())
    assert found is not None
    return found


def service(*servers, name="http", **more):
    return {**status()["services"][0], "name": name, "servers": list(servers), **more}


def record(name="server_down", number=1, **more):
    words = {"time": "2026-01-01T00:59:00.000Z", "severity": "warning", "node": "lvs1", "reason": "no answer", **more}
    return Record(name=name, id=number, **words)


class Console:
    """Stands where the console does, and tells a status of its own making."""

    def __init__(self, directory: Path, extra: str = "", listen: str = "127.0.0.1:1") -> None:
        (directory / "state").mkdir(exist_ok=True)
        text = f'[[director]]\nname = "lvs1"\n[console]\nlisten = "{listen}"\n{extra}'
        places = Places(directory / "hawatch.toml", directory, directory / "state")
        self.settings = Settings(load_text(text), Plan((), {}), "lvs1", "", places)
        self.store = Store(directory / "state" / "console.db", 10**18, lambda: 10**18)
        self.shelf = Shelf(self.store)
        self.policy = Policy()
        self.recipients = {}
        self.linked, self.taken, self.waiting, self.scrapes = True, Counter({"server_up": 7}), 0, 0
        self.delivery = SimpleNamespace(targets={}, sent={}, failures={})
        self.measures = MeasureKeeper(lambda _message: None, lambda: False)
        self.measures_text = Text()
        self.told = status()
        self.events = []
        self.asked = 0
        self._last = b""

    async def fresh_status(self) -> bytes:
        self.asked += 1
        new = json.dumps(self.told).encode() if self.told else b""
        self._last = self._last if new == self._last else new
        return self._last

    def tell(self, event) -> None:
        self.events.append(event)
