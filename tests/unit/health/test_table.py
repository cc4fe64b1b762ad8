"""Tables are compared, and the changes make one of the other."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hawatch.health.table import (
    AddDestination,
    AddService,
    DeleteDestination,
    DeleteService,
    SetDestination,
    SetService,
    apply_to,
    describe,
    diff,
    service_of,
)
from hawatch.model import (
    Destination,
    DestinationKey,
    Family,
    Forward,
    ServiceKey,
    TableEntry,
    Tunnel,
    TunnelChecksum,
    TunnelType,
    VirtualService,
)

KEYS = [ServiceKey(Family.IPV4, "tcp", f"192.0.2.{n}", 80) for n in range(4)]
ADDRESSES = [DestinationKey(f"198.51.100.{n}", 80) for n in range(4)]

services = st.builds(VirtualService, st.sampled_from(KEYS), scheduler=st.sampled_from(["rr", "wlc"]))
members = st.dictionaries(st.sampled_from(ADDRESSES), st.integers(0, 3), max_size=4).map(
    lambda weights: {key: Destination(key, weight=weight) for key, weight in weights.items()}
)
tables = st.lists(st.builds(TableEntry, services, members), max_size=4).map(
    lambda entries: {entry.service.key: entry for entry in entries}
)


@given(tables, tables)
def test_the_changes_make_the_wanted_table(have, want):
    result = apply_to(have, diff(have, want, owned=KEYS))
    assert result == want


@given(tables)
def test_nothing_changes_what_is_right(table):
    assert diff(table, table, owned=KEYS) == ()


@given(tables, tables)
def test_a_change_names_the_service_it_is_about(have, want):
    for change in diff(have, want, owned=KEYS):
        key = service_of(change)
        mine = apply_to(
            {key: have[key]} if key in have else {},
            [one for one in diff(have, want, owned=KEYS) if service_of(one) == key],
        )
        assert mine.get(key) == want.get(key)


@given(tables, tables)
def test_foreign_services_are_never_named(have, want):
    ours = set(want)
    result = apply_to(have, diff(have, want, owned=()))
    assert {key: entry for key, entry in result.items() if key not in ours} == {
        key: entry for key, entry in have.items() if key not in ours
    }


def entry(*weights: int, scheduler: str = "wlc") -> TableEntry:
    held = {key: Destination(key, weight=weight) for key, weight in zip(ADDRESSES, weights, strict=False)}
    return TableEntry(VirtualService(KEYS[0], scheduler), held)


def test_a_replacement_is_added_before_the_other_goes():
    have = {KEYS[0]: entry(1)}
    want = {KEYS[0]: TableEntry(have[KEYS[0]].service, {ADDRESSES[1]: Destination(ADDRESSES[1])})}
    assert diff(have, want) == (
        AddDestination(KEYS[0], Destination(ADDRESSES[1])),
        DeleteDestination(KEYS[0], ADDRESSES[0]),
    )


def test_another_weight_or_scheduler_is_set_in_place():
    changes = diff({KEYS[0]: entry(1, 1)}, {KEYS[0]: entry(1, 0, scheduler="rr")})
    assert changes == (
        SetService(VirtualService(KEYS[0], "rr")),
        SetDestination(KEYS[0], replace(Destination(ADDRESSES[1]), weight=0)),
    )


def test_what_we_made_and_no_longer_want_goes():
    assert diff({KEYS[0]: entry(1)}, {}, owned=[KEYS[0], KEYS[1]]) == (DeleteService(KEYS[0]),)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (AddService(VirtualService(KEYS[0])), "was missing"),
        (SetService(VirtualService(KEYS[0], persistence_s=300, persistence_prefix=24)), "persistent for 300 s by /24"),
        (SetService(VirtualService(KEYS[0], "sh", frozenset({"flag-2"}))), "other settings than scheduler sh flag-2"),
        (
            SetService(VirtualService(KEYS[0], persistence_s=60, persistence_prefix=32, persistence_engine="sip")),
            "/32, engine sip",
        ),
        (SetService(VirtualService(KEYS[0], one_packet=True)), "scheduler wlc, one-packet"),
        (DeleteService(KEYS[0]), "no longer configured"),
        (AddDestination(KEYS[0], Destination(ADDRESSES[0])), "198.51.100.0:80 was missing"),
        (SetDestination(KEYS[0], Destination(ADDRESSES[0], weight=7)), "weight 7"),
        (
            SetDestination(KEYS[0], Destination(ADDRESSES[0], upper_threshold=9, lower_threshold=7)),
            "direct weight 1, thresholds 7 to 9",
        ),
        (
            SetDestination(
                KEYS[0],
                Destination(ADDRESSES[0], Forward.TUNNEL, tunnel=Tunnel(TunnelType.GUE, 6080, TunnelChecksum.REMOTE)),
            ),
            "tunnel weight 1, gue to port 6080 with remote checksum",
        ),
        (DeleteDestination(KEYS[0], ADDRESSES[0]), "should not be"),
    ],
)
def test_every_change_has_words(change, words):
    assert words in describe(change)
