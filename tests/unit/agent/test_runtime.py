"""The lock of the runtime directory and the ctl socket."""

from __future__ import annotations

import grp
import os
import socket
import stat
from pathlib import Path

import pytest

from hawatch.agent.places import Places
from hawatch.agent.runtime import (
    check_may_give,
    give_to_group,
    lock_runtime,
    lock_state,
    make_directory,
    open_ctl_socket,
)
from hawatch.errors import LocalError


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path / "hawatch.toml", tmp_path / "run", tmp_path / "state")


def test_one_agent_a_directory(places: Places) -> None:
    lock = lock_runtime(places)
    assert places.pid_file.read_text() == f"{os.getpid()}\n"
    with pytest.raises(LocalError, match=rf"an agent \(process {os.getpid()}\) runs in .*/run already"):
        lock_runtime(places)
    os.close(lock)
    os.close(lock_runtime(places))


def test_one_agent_a_state_directory(places: Places) -> None:
    lock = lock_state(places)
    with pytest.raises(LocalError, match=r"another agent keeps its state in .*/state; stop it, or give"):
        lock_state(places)
    os.close(lock)
    os.close(lock_state(places))
    assert list(places.state_dir.iterdir()) == []
    places.state_dir.rmdir()
    places.state_dir.write_text("a file")
    with pytest.raises(LocalError, match="cannot make the directory"):
        lock_state(places)


def test_places_that_cannot_be_made(places: Places) -> None:
    places.runtime_dir.write_text("a file")
    with pytest.raises(LocalError, match="cannot make the directory"):
        make_directory(places.runtime_dir)
    places.runtime_dir.unlink()
    places.pid_file.mkdir(parents=True)
    with pytest.raises(LocalError, match=r"cannot open .*hawatch.pid: Is a directory"):
        lock_runtime(places)


def test_the_socket_is_for_its_owner_and_group_and_replaces_an_old_one(places: Places) -> None:
    make_directory(places.runtime_dir)
    places.ctl_socket.write_text("left by somebody")
    with open_ctl_socket(places, ""):
        found = places.ctl_socket.stat()
        assert stat.S_ISSOCK(found.st_mode)
        assert stat.S_IMODE(found.st_mode) == 0o660
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(places.ctl_socket))


def test_a_socket_is_given_to_another_group_and_back(places: Places) -> None:
    make_directory(places.runtime_dir)
    with open_ctl_socket(places, "daemon"):
        give_to_group(places.ctl_socket, "sys")
        assert places.ctl_socket.stat().st_gid == grp.getgrnam("sys").gr_gid
        with pytest.raises(LocalError, match="no group of users"):
            give_to_group(places.ctl_socket, "nobody-of-that-name")
        give_to_group(places.ctl_socket, "")
        assert places.ctl_socket.stat().st_gid == os.getegid()


def test_a_group_that_the_agents_user_is_not_in() -> None:
    check_may_give("")
    check_may_give("daemon")
    with pytest.raises(LocalError, match="no group of users"):
        check_may_give("nobody-of-that-name")
    os.seteuid(65534)
    try:
        check_may_give("")
        with pytest.raises(LocalError, match='no member of group "adm"'):
            check_may_give("adm")
    finally:
        os.seteuid(0)


def test_a_socket_that_cannot_be_made(places: Places) -> None:
    with pytest.raises(LocalError, match="cannot make the ctl socket"):
        open_ctl_socket(places, "")
    with pytest.raises(LocalError, match='no group of users "nobody-of-that-name"'):
        open_ctl_socket(places, "nobody-of-that-name")
