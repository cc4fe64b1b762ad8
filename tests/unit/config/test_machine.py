from __future__ import annotations

from pathlib import Path

import pytest

from hawatch.config.machine import STOPPED_WITH_GUEST, clock_finding, clock_source
from hawatch.config.schema import Config

PAIR = {
    "director": [{"name": "a", "links": ["10.0.0.1"]}, {"name": "b", "links": ["10.0.0.2"]}],
    "witness": [{"name": "w", "links": ["10.0.0.3"]}],
}


def config(**cluster: object) -> Config:
    return Config.model_validate({"cluster": {"key_file": "/keys", **cluster}, **PAIR})


@pytest.mark.parametrize("source", STOPPED_WITH_GUEST)
def test_a_clock_that_stops_with_the_guest_is_told(source: str) -> None:
    finding = clock_finding(config(), source)
    assert finding is not None
    assert finding.message == (
        f"this machine's clock is {source}, which a hypervisor stops with the guest: a director that was paused may "
        "answer for its VIPs beside their new owner when it goes on, usually for 300 ms, at most for 1.46 s; only "
        "fencing excludes that"
    )


def test_profile_vm_is_told_what_it_does_not_do() -> None:
    finding = clock_finding(config(profile="vm"), "kvm-clock")
    assert finding is not None
    assert "usually for 1 s, at most for 4.925 s" in finding.message
    assert finding.message.endswith("without a takeover; it does not make this shorter")
    own = clock_finding(config(profile="vm", lease="2s", heartbeat="400ms"), "kvm-clock")
    assert own is not None
    assert "profile" not in own.message


def test_other_clocks_and_single_directors_are_not_warned_of() -> None:
    assert clock_finding(config(), "tsc") is None
    assert clock_finding(config(), "") is None
    single = Config.model_validate({"director": PAIR["director"][:1]})
    assert clock_finding(single, "kvm-clock") is None


def test_what_the_kernel_says_is_read(tmp_path: Path) -> None:
    (tmp_path / "source").write_text("kvm-clock\n")
    assert clock_source(tmp_path / "source") == "kvm-clock"
    assert clock_source(tmp_path / "missing") == ""
    assert clock_source(tmp_path) == ""
