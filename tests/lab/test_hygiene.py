"""A pair at work, and what must not disturb it: a stopped core, busy processors, new keys."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hawatch.agent.priority import PRIORITY
from hawatch.cluster.parameters import PROFILES
from hawatch.model import NS_PER_MS
from tests.bench.busy import busy
from tests.lab.flood_trial import Trial
from tests.lab.pair.events import core_of
from tests.lab.pair.hawatch import COMMAND
from tests.lab.pair.shell import run, wait_until

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(300)]
HEARTBEAT_MS = PROFILES["default"].heartbeat_ns / NS_PER_MS
BUSY_S = 5.0


@pytest.fixture(scope="module")
def trial() -> Iterator[Trial]:
    with Trial("default").run() as running:
        yield running


def new_events(trial: Trial, before: list[str]) -> list[str]:
    new = trial.events()
    for each in before:
        new.remove(each)
    return new


def test_a_core_that_is_stopped_names_itself_and_nobody_else(trial: Trial) -> None:
    before, group = trial.events(), trial.group()
    core = core_of(trial.owner)
    os.kill(core, signal.SIGSTOP)
    time.sleep(1.5 * HEARTBEAT_MS / 1000)
    os.kill(core, signal.SIGCONT)
    wait_until(lambda: "lease_late" in new_events(trial, before), "the core tells that it was late", limit_s=10)
    time.sleep(2 * PROFILES["default"].lease_ns / 1e9)
    assert set(new_events(trial, before)) == {"lease_late"}
    event = trial.told(trial.owner, "lease_late")[-1]
    assert event["numbers"]["late_ms"] >= HEARTBEAT_MS // 2
    assert event["reason"].startswith(f"{trial.owner.node.name} itself was ")
    assert trial.group()["epoch"] == group["epoch"]
    assert trial.status(trial.owner)["loop_lag_ms"]["max"] >= HEARTBEAT_MS // 2


def test_the_core_is_locked_in_memory_and_takes_real_time_turns(trial: Trial) -> None:
    for pid in (core_of(trial.owner), trial.witness_pid):
        assert os.sched_getscheduler(pid) == os.SCHED_RR
        assert os.sched_getparam(pid).sched_priority == PRIORITY
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        assert next(int(line.split()[1]) for line in lines if line.startswith("VmLck")) > 0


def test_busy_processors_change_nothing(trial: Trial) -> None:
    before, group = trial.events(), trial.group()
    with busy(16):
        time.sleep(BUSY_S)
    later = trial.group()
    assert (later["state"], later["epoch"]) == ("owner", group["epoch"])
    assert set(new_events(trial, before)) <= {"lease_late"}


def test_keys_are_changed_without_a_pause(trial: Trial) -> None:
    """As `hawatch keygen --help` says: add, activate, remove, and each time copy and reload, one node after the other."""
    before, group = trial.events(), trial.group()
    keys = [director.node.scratch / "keys" for director in trial.directors]
    keys.append(trial.witness_log.parent / "keys")

    def step(*words: str) -> None:
        run([*COMMAND, "keygen", str(keys[0]), *words])
        for number, path in enumerate(keys):
            path.write_bytes(keys[0].read_bytes())
            if number < len(trial.directors):
                trial.adapter.ctl(trial.directors[number].node, "reload")
            else:
                count = trial.log().count("keys read again")
                os.kill(trial.witness_pid, signal.SIGHUP)
                wait_until(lambda: trial.log().count("keys read again") > count, "the witness reads them", limit_s=20)  # noqa: B023
            time.sleep(2 * HEARTBEAT_MS / 1000)

    step("--add")
    step("--activate", "2")
    step("--remove", "1")
    assert "1 =" not in keys[2].read_text()
    time.sleep(2 * PROFILES["default"].lease_ns / 1e9)
    later = trial.group()
    assert (later["state"], later["epoch"]) == ("owner", group["epoch"])
    assert later["renewals_failed"] == group["renewals_failed"]
    assert set(new_events(trial, before)) <= {"config_reloaded", "lease_late"}
    assert new_events(trial, before).count("config_reloaded") == 6
    for director in trial.directors:
        assert trial.status(director)["quorum"]["reachable"] == 3
        assert "tag" not in trial.status(director)["rejected"]
        assert "key" not in trial.status(director)["rejected"]


def test_keys_that_are_none_are_refused_and_the_old_ones_stay(trial: Trial) -> None:
    before, group = trial.events(), trial.group()
    path = trial.owner.node.scratch / "keys"
    good = path.read_bytes()
    path.write_bytes(b"nonsense")
    trial.adapter.ctl(trial.owner.node, "reload", check=False)
    path.write_bytes(good)
    assert new_events(trial, before) == ["config_rejected"]
    event = trial.told(trial.owner, "config_rejected")[-1]
    assert event["reason"] == f"{path} line 1: wanted `NUMBER = KEY` or `active = NUMBER`"
    time.sleep(2 * PROFILES["default"].lease_ns / 1e9)
    assert trial.group()["epoch"] == group["epoch"]
