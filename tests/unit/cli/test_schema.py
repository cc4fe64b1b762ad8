"""`hawatch schema` prints a JSON Schema."""

from __future__ import annotations

import json

from hawatch.cli.main import main


def test_prints_a_schema(capsys):
    assert main(["schema"]) == 0
    assert "service" in json.loads(capsys.readouterr().out)["properties"]
