"""How late the core's loop is, and the watchdog that it feeds."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import trio

from hawatch.agent.core_lag import WINDOW, LagMeter, measure_lag
from hawatch.model import NS_PER_MS


def test_quantiles_of_the_last_minute() -> None:
    meter = LagMeter()
    assert (meter.quantile_ms(0.5), meter.max_ms()) == (0.0, 0.0)
    meter.note(99 * NS_PER_MS)
    for number in range(WINDOW):
        meter.note(number * NS_PER_MS // WINDOW)
    meter.note(-5)
    assert meter.max_ms() < 1.0
    assert meter.quantile_ms(0.5) == pytest.approx(0.5, abs=0.01)
    assert meter.quantile_ms(1.0) == meter.max_ms()


async def test_the_watchdog_is_fed_and_told_the_status_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        meter = LagMeter()
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(measure_lag, meter, lambda: "2 of 2 servers up")
                found = []
                for _ in range(2):
                    await trio.lowlevel.wait_readable(manager)
                    found.append(manager.recv(1000))
                nursery.cancel_scope.cancel()
    assert found == [b"WATCHDOG=1\nSTATUS=2 of 2 servers up", b"WATCHDOG=1"]
    assert meter.max_ms() > 0
