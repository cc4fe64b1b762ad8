from __future__ import annotations

from pathlib import Path

import pytest

from hawatch.probes.login import LoginOptions, load_password


@pytest.mark.parametrize(
    ("content", "password", "problem"),
    [
        (b"geheim\r\n", "geheim", ""),
        (b" a b\n", " a b", ""),
        (b"", "", " has no password in its first line"),
        (b"\xff\n", "", " is not UTF-8"),
    ],
)
def test_password_is_the_first_line(tmp_path: Path, content: bytes, password: str, problem: str) -> None:
    path = tmp_path / "password"
    path.write_bytes(content)
    wanted = (password, f"{path}{problem}" if problem else "")
    assert load_password(LoginOptions(username="u", password_file=str(path))) == wanted


def test_no_login() -> None:
    assert load_password(LoginOptions()) == ("", "")
