from __future__ import annotations

from pathlib import Path

from hawatch.agent.words_file import read_words, write_words


def test_words_are_kept_whole_or_as_they_were(tmp_path: Path) -> None:
    file = tmp_path / "words"
    assert read_words(file) == frozenset()
    assert write_words(file, ["b", "a"]) == ""
    assert file.read_text() == "b\na\n"
    assert read_words(file) == {"a", "b"}
    assert write_words(file, []) == ""
    assert read_words(file) == frozenset()


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    problem = write_words(tmp_path / "none" / "words", ["a"])
    assert problem == f"{tmp_path}/none/words cannot be written (No such file or directory)"


def test_what_is_no_text_is_read_as_words_of_no_meaning(tmp_path: Path) -> None:
    file = tmp_path / "words"
    file.write_bytes(b"web\n\xff\xfe\n")
    assert "web" in read_words(file)
