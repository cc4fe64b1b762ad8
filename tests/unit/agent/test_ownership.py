from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing

from hawatch.agent.ownership import SingleOwnership, has_vips
from hawatch.agent.places import Places
from hawatch.agent.settings import Settings
from hawatch.config.load import load_text
from hawatch.errors import RefusedError
from hawatch.model import Plan

TEXT = '[[director]]\nname = "lvs1"\n[[group]]\nname = "web"\n'
TEXT += 'addresses = [{ address = "192.0.2.110/32", interface = "lo" }]\n'


def settings(text: str) -> Settings:
    places = Places(Path("/none"), Path("/none"), Path("/none"))
    return Settings(load_text(text), Plan((), {}), "lvs1", "", places)


def test_a_single_director_owns_everything() -> None:
    ownership = SingleOwnership(settings(TEXT))
    assert ownership.owned() == {"web"}
    assert ownership.owners() == {"web": "lvs1"}
    status = ownership.status()
    assert status["directors"] == []
    assert status["quorum"] == {
        "mode": "none", "held": True, "acceptors": 0, "reachable": 0,
        "reason": "a single director owns every group, without a lease",
    }  # fmt: skip
    (group,) = status["groups"]
    assert group == {
        "name": "web", "state": "owner", "owner": "lvs1", "epoch": 0, "gate": "none",
        "addresses": ["192.0.2.110/32"], "reason": "a single director owns every group, without a lease",
    }  # fmt: skip
    assert ownership.warnings() == []
    ownership.set_settings(settings(TEXT.replace('"web"', '"mail"')))
    assert ownership.owned() == {"mail"}


class Vips:
    """Stands in for what keeps the addresses up."""

    def __init__(self, settings: Settings) -> None:
        self.known = [settings]

    async def run(self) -> None:
        await trio.sleep_forever()

    def set_settings(self, settings: Settings) -> None:
        self.known.append(settings)

    def problem(self, group: str) -> str:
        return f"no interface for {group}"

    def problems(self) -> list[str]:
        return ["no interface"]


async def test_addresses_are_looked_after_as_soon_as_there_are_any(nursery: trio.Nursery) -> None:
    made: list[Vips] = []

    def make(settings: Settings, _emit: object) -> Vips:
        made.append(Vips(settings))
        return made[-1]

    first, second, third = settings(TEXT[: TEXT.index("[[group]]")]), settings(TEXT), settings(TEXT)
    ownership = SingleOwnership(first, make)
    nursery.start_soon(ownership.run, lambda events: None, lambda: None)
    await trio.testing.wait_all_tasks_blocked()
    assert not made
    for each in (second, third):
        ownership.set_settings(each)
        await trio.testing.wait_all_tasks_blocked()
    assert made[0].known == [second, third]
    assert ownership.warnings() == ["no interface"]
    (group,) = ownership.status()["groups"]
    assert group["reason"] == "no interface for web"
    assert group["state"] == "owner"


def test_what_a_lease_has_left_is_looked_after_without_groups_too(tmp_path: Path) -> None:
    places = Places(tmp_path, tmp_path, tmp_path)
    alone = Settings(load_text('[[director]]\nname = "lvs1"\n'), Plan((), {}), "lvs1", "", places)
    assert not has_vips(alone)
    (tmp_path / "boot").write_text("1\n")
    assert has_vips(alone)


async def test_there_is_nobody_to_share_with() -> None:
    ownership = SingleOwnership(settings(TEXT))
    for refused in (ownership.switchover("web", ""), ownership.takeover("web"), ownership.giveaway()):
        with pytest.raises(RefusedError, match="lvs1 is a single director"):
            await refused
    with pytest.raises(RefusedError, match="nothing was given away"):
        await ownership.resume()
    await ownership.stop()
