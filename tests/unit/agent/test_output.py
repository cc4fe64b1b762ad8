"""Text that is written at once or not at all."""

from __future__ import annotations

import os

from hawatch.agent.output import PIPE_BYTES, UnwaitingOutput


def test_what_there_is_room_for_is_written_and_the_rest_left_out() -> None:
    read_end, write_end = os.pipe()
    output = UnwaitingOutput(write_end)
    print("a sentence \udcff", file=output, flush=True)
    assert os.read(read_end, 100) == b"a sentence ?\n"
    for _ in range(100):
        assert output.write("x" * PIPE_BYTES) == PIPE_BYTES
    os.set_blocking(read_end, False)
    assert 0 < len(os.read(read_end, 1 << 20)) < 100 * PIPE_BYTES
    assert output.writable()
    assert output.fileno() == write_end
    os.close(read_end)
    assert output.write("nobody reads it") == 15
    os.close(write_end)
    assert output.write("nothing is behind it") == 20
