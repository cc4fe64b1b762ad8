from __future__ import annotations

from pathlib import Path

import pytest

from hawatch.agent.ownership import SingleOwnership
from hawatch.agent.settings import Places, Settings
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
    ownership.set_settings(settings(TEXT.replace('"web"', '"mail"')))
    assert ownership.owned() == {"mail"}


async def test_there_is_nobody_to_share_with() -> None:
    ownership = SingleOwnership(settings(TEXT))
    for refused in (ownership.switchover("web", ""), ownership.takeover("web"), ownership.giveaway()):
        with pytest.raises(RefusedError, match="lvs1 is a single director"):
            await refused
    with pytest.raises(RefusedError, match="nothing was given away"):
        await ownership.resume()
    await ownership.stop()
