"""The rooms of the house: decisions import no I/O, data flows one way, every module has its test."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PURE = sorted([*ROOT.glob("hawatch/cluster/*.py"), *ROOT.glob("hawatch/health/*.py"), ROOT / "hawatch/model.py"])
EFFECTS = {
    "asyncio", "httpx", "logging", "multiprocessing", "os", "pathlib", "pyroute2", "selectors", "signal",
    "socket", "ssl", "subprocess", "threading", "time", "trio",
}  # fmt: skip


def imported_modules(path: Path) -> set[str]:
    """Return the full names of all modules that a file imports, wherever in the file."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def relative(path: Path) -> str:
    """Name a file as the tests' ids show it."""
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", PURE, ids=relative)
def test_decisions_import_no_effects(path: Path) -> None:
    roots = {name.split(".")[0] for name in imported_modules(path)}
    assert not roots & EFFECTS


@pytest.mark.parametrize("path", PURE, ids=relative)
def test_decisions_import_only_decisions(path: Path) -> None:
    ours = {name for name in imported_modules(path) if name.startswith("hawatch.")}
    allowed = ("hawatch.cluster", "hawatch.health", "hawatch.model", "hawatch.errors")
    assert {name for name in ours if not name.startswith(allowed)} == set()


@pytest.mark.parametrize("path", sorted([*ROOT.glob("probes/*.py"), *ROOT.glob("actions/*.py")]), ids=relative)
def test_looking_and_acting_do_not_reach_into_the_agent(path: Path) -> None:
    """Probes look and actions act: neither knows the processes, the configuration file or the commands."""
    forbidden = ("hawatch.agent", "hawatch.config", "hawatch.control", "hawatch.cli", "hawatch.cluster")
    assert {name for name in imported_modules(path) if name.startswith(forbidden)} == set()


@pytest.mark.parametrize("path", sorted(ROOT.glob("hawatch/**/*.py")), ids=relative)
def test_probes_are_found_by_entry_point_only(path: Path) -> None:
    if (ROOT / "hawatch/probes") in path.parents or (ROOT / "hawatch/actions") in path.parents:
        return
    assert {name for name in imported_modules(path) if name.startswith("hawatch.probes")} == set()


def test_the_check_can_fail(tmp_path: Path) -> None:
    sample = tmp_path / "sample.py"
    sample.write_text("def f():\n    import socket\n    from trio import sleep\n")
    assert {"socket", "trio"} <= imported_modules(sample) & EFFECTS
