from __future__ import annotations

import pytest

from hawatch.actions import gate_rules
from hawatch.actions.gate_rules import GateGroup, Layout


def test_names_of_groups_become_names_that_nft_reads() -> None:
    assert gate_rules.label("web") == "web"
    odd = gate_rules.label("mail.six und so weiter, sehr lang, wirklich sehr lang")
    assert odd.isascii()
    assert odd.replace("_", "").isalnum()
    assert odd != gate_rules.label("mail.six und so weiter, sehr lang, wirklich sehr lanG")
    assert len(gate_rules.armed(0, odd)) < 64


def test_a_name_of_forty_characters_stands_as_it_is_and_a_longer_one_is_cut() -> None:
    assert gate_rules.label("a" * 40) == "a" * 40
    assert gate_rules.label("a" * 41) == "a" * 31 + "_c0f8bd4d"
    assert gate_rules.label("a" * 42).startswith("a" * 31 + "_")
    assert gate_rules.label("web-1").startswith("web_1_")
    assert gate_rules.label("wéb") != gate_rules.label("w_b") == "w_b"


def test_groups_are_known_by_their_sets() -> None:
    names = [gate_rules.armed(0, "web"), gate_rules.active(0, "web"), gate_rules.armed(1, "mail"), "vips_in4"]
    assert gate_rules.labels_of_sets(names) == {"web"}
    assert gate_rules.labels_of_sets([gate_rules.armed(0, "armed0_"), gate_rules.armed(0, "b")]) == {"armed0_", "b"}


def test_two_groups_with_one_address_are_refused_in_whatever_spelling() -> None:
    groups = {"web": GateGroup(("2001:db8::1",)), "mail": GateGroup(("2001:DB8:0::1",))}
    with pytest.raises(ValueError, match="2001:DB8:0::1 belongs to two groups, mail is one of them"):
        gate_rules.map_elements(Layout.INET, "t", groups)
    twice = gate_rules.map_elements(Layout.SPLIT, "t", {"web": GateGroup(("192.0.2.1", "192.0.2.1"))})
    assert sum(len(elements) for elements in twice.values()) == 3


@pytest.mark.parametrize("layout", list(Layout))
def test_every_way_of_answering_has_its_map(layout: Layout) -> None:
    groups = {"web": GateGroup(("192.0.2.1", "2001:db8::1"))}
    maps = gate_rules.map_elements(layout, "t", groups)
    jumps = {chain for elements in maps.values() for chain in elements.values()}
    assert jumps == {f"{check}_web" for check in ("in4", "out4", "in6", "na6", "out6", "arp4")}


def test_a_shared_group_may_send_from_its_address() -> None:
    maps = gate_rules.map_elements(Layout.INET, "t", {"web": GateGroup(("192.0.2.1",), shared=True)})
    jumps = {chain for elements in maps.values() for chain in elements.values()}
    assert jumps == {"in4_web", "arp4_web"}


def test_changes_of_a_map_are_the_difference() -> None:
    table = gate_rules.tables(Layout.INET, "t")[0]
    assert gate_rules.map_changes(table, "m", {b"a": "x"}, {b"a": "x"}) == []
    assert len(gate_rules.map_changes(table, "m", {b"a": "x", b"b": "x"}, {b"b": "y", b"c": "x"})) == 2
