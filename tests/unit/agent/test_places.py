"""Where files lie: what is kept apart from what a boot takes away, and nothing twice."""

from __future__ import annotations

from pathlib import Path

from hawatch.agent.places import Places


def test_what_must_survive_a_boot_is_in_the_state_directory() -> None:
    places = Places(Path("/c.toml"), Path("/run/h"), Path("/lib/h"))
    kept = {places.admin_file, places.events_file, places.journal_file, places.head_start_file}
    assert len(kept) == 4
    assert {path.parent for path in kept} == {places.state_dir}
    passing = {places.pid_file, places.ctl_socket, places.console_socket}
    assert len(passing) == 3
    assert {path.parent for path in passing} == {places.runtime_dir}
