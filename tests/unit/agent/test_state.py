from __future__ import annotations

from pathlib import Path

import pytest

from hawatch.agent.state import AdminState, load_admin, save_admin
from hawatch.model import Admin


def some() -> AdminState:
    state = AdminState()
    state.set("http", "192.0.2.1:80", Admin.DRAINED)
    state.set("smtp", "[fd00::1]:25", Admin.DISABLED)
    state.gaveaway = True
    return state


def test_what_was_said_survives(tmp_path: Path) -> None:
    path = tmp_path / "state/admin.json"
    save_admin(path, some().to_file())
    state, problem = load_admin(path)
    assert problem == ""
    assert state.of("http", "192.0.2.1:80") is Admin.DRAINED
    assert state.of("smtp", "[fd00::1]:25") is Admin.DISABLED
    assert state.of("http", "192.0.2.2:80") is Admin.NONE
    assert state.gaveaway is True
    assert [each.name for each in path.parent.iterdir()] == ["admin.json"]


def test_taking_back_leaves_nothing() -> None:
    state = some()
    state.set("http", "192.0.2.1:80", Admin.NONE)
    state.set("http", "192.0.2.9:80", Admin.NONE)
    assert state.entries() == {("smtp", "[fd00::1]:25"): Admin.DISABLED}


def test_no_file_is_no_problem(tmp_path: Path) -> None:
    state, problem = load_admin(tmp_path / "admin.json")
    assert (state.entries(), problem) == ({}, "")


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"version": 2}', '{"version": 1, "servers": [{"service": "a", "server": "b", "admin": "no"}]}'],
)
def test_a_broken_file_is_kept_and_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "admin.json"
    path.write_text(text)
    state, problem = load_admin(path)
    assert state.entries() == {}
    assert "broken" in problem
    assert not path.exists()
    assert (tmp_path / "admin.json.broken").read_text() == text


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    state, problem = load_admin(tmp_path)
    assert state.entries() == {}
    assert "cannot be read" in problem


def test_a_failed_write_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "admin.json"
    save_admin(path, some().to_file())
    (tmp_path / "admin.json.new").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        save_admin(path, AdminState().to_file())
    assert load_admin(path)[0].entries() == some().entries()
