"""Probes by entry point."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hawatch import registry
from hawatch.errors import ConfigError
from hawatch.registry import is_built_in, probe_class, probe_entry_points

BUILT_IN = {"dns", "exec", "http", "ping", "pop3", "smtp", "tcp", "udp"}
OUTSIDE = """[hawatch.probes]
tcp = outside:Better
broken = outside_that_is_not_there:Probe
odd = json:JSONDecoder
strange = strange_outside:StrangeProbe
"""
STRANGE = """from hawatch.plugin import Options, Probe
class Thing:
    pass
class StrangeOptions(Options):
    thing: Thing = Thing()
class StrangeProbe(Probe):
    options_type = StrangeOptions
"""


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install a package with four probes, none of them good."""
    (tmp_path / "strange_outside.py").write_text(STRANGE)
    metadata = tmp_path / "outside-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(OUTSIDE)
    monkeypatch.syspath_prepend(str(tmp_path))
    for cached in (registry.probe_entry_points, registry.probe_class):
        cached.cache_clear()
    yield
    for cached in (registry.probe_entry_points, registry.probe_class):
        cached.cache_clear()


def test_the_built_in_ones_are_found() -> None:
    found = {name for name, entry_point in probe_entry_points().items() if is_built_in(entry_point)}
    assert found == BUILT_IN
    assert probe_class("tcp").__name__ == "TcpProbe"


@pytest.mark.usefixtures("outside")
def test_a_built_in_one_cannot_be_replaced() -> None:
    assert is_built_in(probe_entry_points()["tcp"])
    assert not is_built_in(probe_entry_points()["odd"])


@pytest.mark.usefixtures("outside")
@pytest.mark.parametrize(
    ("probe_type", "words"),
    [
        ("nonsense", 'no probe of type "nonsense" is installed; there are: broken, dns'),
        ("broken", 'the probe "broken" .* cannot be loaded: ModuleNotFoundError'),
        ("odd", 'the probe "odd" .* is no subclass'),
        ("strange", 'the options of the probe "strange" .* cannot be used: .*Thing'),
    ],
)
def test_what_cannot_be_had_is_told(probe_type: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        probe_class(probe_type)
