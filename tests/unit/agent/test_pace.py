from __future__ import annotations

import pytest
import trio
import trio.testing

from hawatch.agent.pace import next_turn


async def test_all_tasks_take_the_same_turns(autojump_clock: trio.testing.MockClock) -> None:
    turns: list[float] = []

    async def take_turns(first_s: float) -> None:
        await trio.sleep(first_s)
        for _ in range(3):
            await trio.sleep_until(next_turn(0.5))
            turns.append(autojump_clock.current_time())

    async with trio.open_nursery() as nursery:
        for first_s in (0.0, 0.1, 0.499):
            nursery.start_soon(take_turns, first_s)
    assert turns == [each for turn in (0.5, 1.0, 1.5) for each in [turn] * 3]


@pytest.mark.parametrize(("now_s", "turn_s"), [(0.0, 0.5), (0.3, 0.5), (0.5, 1.0), (7.9, 8.0)])
async def test_a_turn_is_never_one_that_has_begun(
    now_s: float, turn_s: float, autojump_clock: trio.testing.MockClock
) -> None:
    await trio.sleep(now_s)
    assert next_turn(0.5) == turn_s
