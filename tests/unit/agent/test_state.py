from __future__ import annotations

from pathlib import Path

import pytest

from hawatch.agent.state import AdminState, follow_renames, load_admin, save_admin
from hawatch.model import Admin, Family, OnAllDown, OnFail, Plan, ServiceKey, ServicePlan, VirtualService

ONE = "192.0.2.1:80"


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


def service(name: str, port: int = 80) -> ServicePlan:
    virtual = VirtualService(ServiceKey(Family.IPV4, "tcp", "192.0.2.110", port))
    return ServicePlan(name, "", virtual, (), None, OnFail.REMOVE, OnAllDown.EMPTY)


def test_what_was_said_follows_a_service_that_gets_another_name() -> None:
    state = AdminState()
    for name, word in (("web", Admin.DRAINED), ("mail", Admin.DISABLED), ("gone", Admin.DRAINED)):
        state.set(name, ONE, word)
    old = Plan((service("web"), service("mail", 25)), {})
    state.locate(old)
    same, told = follow_renames(state, old)
    assert (same.to_file(), told) == (state.to_file(), [])
    moved, told = follow_renames(state, Plan((service("www"), service("mail", 26)), {}))
    assert moved.entries() == {
        ("www", ONE): Admin.DRAINED,
        ("mail", ONE): Admin.DISABLED,
        ("gone", ONE): Admin.DRAINED,
    }
    assert told == ["service www: 192.0.2.1:80 stays drained, as it was when it was called web"]
    swapped, told = follow_renames(state, Plan((service("mail"), service("web", 25)), {}))
    assert (swapped.of("mail", ONE), swapped.of("web", ONE)) == (Admin.DRAINED, Admin.DISABLED)
    assert len(told) == 2


def test_it_follows_a_service_that_is_renamed_again_or_was_left_out_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "admin.json"
    state = AdminState()
    state.set("web", ONE, Admin.DRAINED)
    state.locate(Plan((service("web"), service("mail", 25)), {}))
    for services in ((service("www"),), (), (service("site"), service("www", 81))):
        save_admin(path, state.to_file())
        state, _ = follow_renames(load_admin(path)[0], Plan(services, {}))
    assert state.entries() == {("site", ONE): Admin.DRAINED}
    assert state.to_file().virtuals == {"site": "tcp 192.0.2.110:80"}, "nothing was said of the others"


def test_a_file_of_an_earlier_version_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "admin.json"
    path.write_text(f'{{"version": 1, "servers": [{{"service": "web", "server": "{ONE}", "admin": "drained"}}]}}')
    state, problem = load_admin(path)
    moved, told = follow_renames(state, Plan((service("www"),), {}))
    assert (problem, told, moved.entries()) == ("", [], {("web", ONE): Admin.DRAINED})
