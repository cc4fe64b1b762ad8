"""The manual knows every command and every option, and `--help` explains each of them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import pytest

from hawatch.cli.main import COMMANDS, make_parser

DOCS = Path(__file__).resolve().parents[3] / "docs"
PAGES = {"top": "howto/page.md", "probe": "reference/probe-command.md"}
"""Commands with a page of their own."""


def walk(
    parser: argparse.ArgumentParser, words: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], argparse.Action]]:
    """Yield every argument of a command and of the commands below it."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield from walk(below, (*words, name))
        elif not isinstance(action, argparse._HelpAction):
            yield words, action


ARGUMENTS = list(walk(make_parser([*COMMANDS])))


@pytest.mark.parametrize(
    ("words", "action"), ARGUMENTS, ids=lambda value: getattr(value, "dest", None) or " ".join(value)
)
def test_it_is_explained(words: tuple[str, ...], action: argparse.Action) -> None:
    assert action.help
    manual = (DOCS / "reference" / "commands.md").read_text()
    if words and words[0] in PAGES:
        manual += (DOCS / PAGES[words[0]]).read_text()
    for option in action.option_strings:
        if option.startswith("--") and words:
            assert option in manual, words


def test_every_command_is_in_the_reference() -> None:
    manual = (DOCS / "reference" / "commands.md").read_text()
    for words in {words for words, _ in ARGUMENTS if words}:
        name = words[-1] if words[0] == "ctl" else f"hawatch {words[0]}"
        assert f"`{name}" in manual, name
