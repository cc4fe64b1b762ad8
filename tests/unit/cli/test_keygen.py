from __future__ import annotations

from pathlib import Path

import pytest

from hawatch.cli.main import main
from hawatch.cluster import keys


def keygen(*words: str | Path) -> int:
    return main(["keygen", *(str(word) for word in words)])


def test_a_key_is_made_once_and_for_its_owner_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "keys"
    assert keygen(path) == 0
    assert path.stat().st_mode & 0o777 == 0o600
    ring = keys.parse(path.read_text())
    assert ring.active == 1
    assert list(ring.keys) == [1]
    before = path.read_text()
    assert before.split("1 = ")[1].strip() not in capsys.readouterr().out
    assert keygen(path) == 1
    assert path.read_text() == before
    assert "--add" in capsys.readouterr().err


def test_a_key_is_changed_in_three_steps(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    keygen(path)
    path.chmod(0o640)
    assert keygen("--add", path) == 0
    ring = keys.parse(path.read_text())
    assert (sorted(ring.keys), ring.active) == ([1, 2], 1)
    assert keygen("--activate", "2", path) == 0
    assert keygen("--remove", "1", path) == 0
    ring = keys.parse(path.read_text())
    assert (sorted(ring.keys), ring.active) == ([2], 2)
    assert path.stat().st_mode & 0o777 == 0o640
    assert [each.name for each in tmp_path.iterdir()] == ["keys"]


def test_what_cannot_be_done_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "keys"
    keygen(path)
    before = path.read_text()
    assert keygen("--remove", "1", path) == 2
    assert "activate another one before" in capsys.readouterr().err
    assert keygen("--activate", "9", path) == 2
    assert path.read_text() == before
    assert keygen("--add", tmp_path / "none") == 2
    assert "cannot be read" in capsys.readouterr().err
    assert keygen(tmp_path / "none" / "keys") == 1
    path.write_text("nonsense\n")
    assert keygen("--add", path) == 2
    assert "line 1" in capsys.readouterr().err
    assert path.read_text() == "nonsense\n"
