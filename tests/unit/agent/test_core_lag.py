from __future__ import annotations

import socket
from pathlib import Path

import pytest
import trio

from hawatch.agent.core_lag import WINDOW, LagMeter, measure_lag
from hawatch.model import NS_PER_MS


def test_quantiles() -> None:
    meter = LagMeter()
    assert (meter.quantile_ms(0.5), meter.max_ms()) == (0.0, 0.0)
    for late_ms in range(100):
        meter.note(late_ms * NS_PER_MS)
    assert (meter.quantile_ms(0.5), meter.quantile_ms(0.999), meter.quantile_ms(1.0)) == (50.0, 99.0, 99.0)
    meter.note(-5)
    assert meter.max_ms() == 99.0


def test_only_the_last_measurements_count() -> None:
    meter = LagMeter()
    meter.note(1000 * NS_PER_MS)
    for _ in range(WINDOW):
        meter.note(NS_PER_MS)
    assert meter.max_ms() == 1.0


async def test_the_service_managers_watchdog_is_fed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "notify"
    monkeypatch.setenv("NOTIFY_SOCKET", str(path))
    with trio.socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        await receiver.bind(str(path))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(measure_lag, LagMeter(), lambda: "lvs1: 2 of 3 servers up")
            assert await receiver.recv(100) == b"WATCHDOG=1\nSTATUS=lvs1: 2 of 3 servers up"
            assert await receiver.recv(100) == b"WATCHDOG=1"
            nursery.cancel_scope.cancel()
