from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from hawatch.probes.fields import HexBytes, Regex


def test_bytes_in_hex() -> None:
    hexes = TypeAdapter(HexBytes)
    assert hexes.validate_python("0001fF") == "00 01 ff"
    assert hexes.validate_python("") == ""
    with pytest.raises(ValidationError, match="not bytes in hex"):
        hexes.validate_python("0x00")


def test_regular_expressions() -> None:
    regexes = TypeAdapter(Regex)
    assert regexes.validate_python("^ok$") == "^ok$"
    assert regexes.validate_python("") == ""
    with pytest.raises(ValidationError, match="not a regular expression"):
        regexes.validate_python("(")
