"""The complete examples in README and manual are configurations that the agent accepts."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

from hawatch.config.load import load_text

ROOT = Path(__file__).resolve().parents[3]
BLOCK = re.compile(r"^( {4,8})\[.*\n(?:\1.*\n|\n)*", re.MULTILINE)
"""Indented lines from a table's head on, with the empty lines between them."""
PAGES = ("README.md", "docs/tutorial.md", "docs/howto/two-directors.md", "docs/howto/coming-from.md")


def is_complete(block: str) -> bool:
    """Tell whether a block has all that an agent needs: what is shared is left out where it does not matter."""
    return "[[group]]" in block and ("key_file" in block or block.count("[[director]]") == 1)


@pytest.mark.parametrize("page", PAGES)
def test_it_is_accepted(page: str) -> None:
    blocks = [found[0] for found in BLOCK.finditer((ROOT / page).read_text(encoding="utf-8"))]
    (example,) = [block for block in blocks if is_complete(block)]
    config = load_text(textwrap.dedent(example))
    assert config.director
    assert config.group
