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
