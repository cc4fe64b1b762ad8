"""What one core leaves to the next."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hawatch.agent.memento import HEADER, SLOT_BYTES, Memento, make_memento
from hawatch.health.decide import Memory, ServiceMemory
from hawatch.model import DestinationKey, ServerState

KEY = DestinationKey("192.0.2.1", 80)
UP = ServiceMemory({KEY: ServerState.UP}, frozenset({KEY}))
DOWN = ServiceMemory({KEY: ServerState.DOWN}, frozenset({KEY}), down=True)
HELD = ServiceMemory({KEY: ServerState.UNKNOWN}, inherited=True)


@pytest.fixture
def descriptor() -> Iterator[int]:
    found = make_memento()
    yield found
    os.close(found)


def test_nothing_was_left(descriptor: int) -> None:
    assert Memento(descriptor).read() is None


def test_the_newest_is_read_and_gone_on_from(descriptor: int) -> None:
    first = Memento(descriptor)
    for memory in ({"web": UP}, {"web": DOWN}, {"web": DOWN, "mail": UP, "dns": HELD}):
        first.write(memory)
    second = Memento(descriptor)
    assert second.read() == {"web": DOWN, "mail": UP, "dns": HELD}
    second.write({"mail": UP})
    assert Memento(descriptor).read() == {"mail": UP}


def test_a_core_that_is_killed_while_it_writes_leaves_what_was_before(descriptor: int) -> None:
    memento = Memento(descriptor)
    memento.write({"web": UP})
    memento.write({"web": DOWN})  # the second write lies in slot 0
    os.pwrite(descriptor, b"\xff", HEADER.size + 3)
    assert Memento(descriptor).read() == {"web": UP}
    os.pwrite(descriptor, HEADER.pack(9, SLOT_BYTES, 0), 0)
    assert Memento(descriptor).read() == {"web": UP}


services = st.builds(
    ServiceMemory,
    st.dictionaries(st.builds(DestinationKey, st.just("192.0.2.1"), st.integers(1, 5)), st.sampled_from(ServerState)),
    st.frozensets(st.builds(DestinationKey, st.just("::1"), st.integers(1, 5))),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)


@given(st.lists(st.dictionaries(st.sampled_from("abc"), services), min_size=1, max_size=4))
def test_what_is_written_is_read(memories: list[Memory]) -> None:
    descriptor = make_memento()
    memento = Memento(descriptor)
    for memory in memories:
        memento.write(memory)
        assert Memento(descriptor).read() == memory
    os.close(descriptor)
