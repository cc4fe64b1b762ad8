from __future__ import annotations

import os
from pathlib import Path

from hawatch.console.processes import PAGE_BYTES, TICKS_PER_S, Usage, usage


def test_this_process():
    found = usage(os.getpid())
    assert found.cpu_s > 0
    assert 1 << 20 < found.resident_bytes < 1 << 34


def test_a_name_with_a_bracket(tmp_path: Path):
    (tmp_path / "7").mkdir()
    rest = " ".join(str(place) for place in range(3, 53))
    (tmp_path / "7" / "stat").write_text(f"7 (a) b) {rest}\n")
    assert usage(7, tmp_path) == Usage((14 + 15) / TICKS_PER_S, 24 * PAGE_BYTES)
    (tmp_path / "7" / "stat").write_text("7 (a) S")
    assert usage(7, tmp_path) is None
    assert usage(8, tmp_path) is None
