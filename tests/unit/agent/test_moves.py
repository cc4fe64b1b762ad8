"""An address that would go from group to group is refused, at a reload and over a restart."""

from __future__ import annotations

from pathlib import Path

import pytest

from hawatch.agent.moves import SHOWN_MAX, groups_file, known_groups, refuse_moves_since_last_start, remember_groups
from hawatch.agent.places import Places
from hawatch.agent.settings import Settings
from hawatch.config.load import load_text
from hawatch.errors import ConfigError
from hawatch.model import Plan
from tests.unit.config.fakes import TWO

ALONE = '[[director]]\nname = "lvs1"\n'


def settings(state: Path, head: str = TWO, **groups: str) -> Settings:
    """Return settings with groups of addresses, which are given as words."""
    text = head
    for name, words in groups.items():
        rows = ", ".join(f'{{ address = "{word}", interface = "eth0" }}' for word in words.split())
        text += f'[[group]]\nname = "{name}"\naddresses = [{rows}]\n'
    return Settings(load_text(text), Plan((), {}), "lvs1", "", Places(state, state, state))


def test_an_exchange_over_a_restart_is_refused_until_both_steps_were_made(tmp_path: Path) -> None:
    first = settings(tmp_path, web="192.0.2.1 fd00::1", mail="192.0.2.2")
    refuse_moves_since_last_start(first)
    remember_groups(first)
    assert known_groups(groups_file(first)) == {"192.0.2.1": "web", "fd00::1": "web", "192.0.2.2": "mail"}
    refuse_moves_since_last_start(first)
    moved = settings(tmp_path, web="192.0.2.1", mail="192.0.2.2 fd00::1")
    with pytest.raises(ConfigError) as refusal:
        refuse_moves_since_last_start(moved)
    words = str(refusal.value)
    assert words.startswith("address fd00::1 goes from group web to group mail: two directors could own it meanwhile;")
    assert f"remove {tmp_path}/groups and start" in words
    between = settings(tmp_path, web="192.0.2.1", mail="192.0.2.2")
    refuse_moves_since_last_start(between)
    remember_groups(between)
    refuse_moves_since_last_start(moved)


def test_a_group_may_get_another_name(tmp_path: Path) -> None:
    remember_groups(settings(tmp_path, web="192.0.2.1"))
    refuse_moves_since_last_start(settings(tmp_path, www="192.0.2.1"))


def test_a_single_director_moves_what_it_likes(tmp_path: Path) -> None:
    remember_groups(settings(tmp_path, web="192.0.2.1", mail="192.0.2.2"))
    refuse_moves_since_last_start(settings(tmp_path, ALONE, web="192.0.2.2", mail="192.0.2.1"))


def test_a_few_of_many_are_shown(tmp_path: Path) -> None:
    many = [f"192.0.2.{number}" for number in range(1, 20)]
    remember_groups(settings(tmp_path, web=" ".join(many), mail="192.0.2.99"))
    with pytest.raises(ConfigError) as refusal:
        refuse_moves_since_last_start(settings(tmp_path, web="192.0.2.77", mail=" ".join(many)))
    assert str(refusal.value).count("goes from group") == SHOWN_MAX
    assert "; and 14 more: two directors" in str(refusal.value)


def test_a_file_that_is_none_refuses_nothing(tmp_path: Path) -> None:
    (tmp_path / "groups").write_bytes(b"\xff = = nonsense\n192.0.2.1")
    refuse_moves_since_last_start(settings(tmp_path, web="192.0.2.1"))


def test_what_could_not_be_written_refuses_nothing_later(tmp_path: Path) -> None:
    remember_groups(settings(tmp_path, web="192.0.2.1", mail="192.0.2.2"))
    (tmp_path / "groups.new").mkdir()
    remember_groups(settings(tmp_path, web="192.0.2.3", mail="192.0.2.2"))
    assert not (tmp_path / "groups").exists()
    refuse_moves_since_last_start(settings(tmp_path, web="192.0.2.3", mail="192.0.2.1 192.0.2.2"))
