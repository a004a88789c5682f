"""Folded stacks of perf script's text against the Perl loop that the bench measures them with."""

from __future__ import annotations

from pathlib import Path

from swarmscope.bench import multiplied_perf_script
from swarmscope.trace import folded
from tests.unit.recording_here import need
from tests.unit.test_perf_script import FULL, decode, golden, printed, recorded


def test_folded_stacks_are_what_the_perl_loop_makes_of_the_text(tmp_path: Path) -> None:
    need("perf", "ping", "perl")
    events = ["-e", "net:*,skb:consume_skb,cpu-clock", "-F", "4000", "-g", "-a"]
    chained = recorded(tmp_path / "perf.data", *events)
    texts = [printed(chained, ""), printed(chained, FULL, "--ns"), golden("default"), golden("program")]
    for whole in texts:
        # The Perl loop cannot tell a deleted file's name from a function's arguments.
        text = b"\n\n".join(block for block in whole.split(b"\n\n") if b"(deleted)" not in block)
        path = tmp_path / "text"
        path.write_bytes(text)
        assert folded.folded([decode(text)]) == multiplied_perf_script.fold_by_perl(path)
        assert len(folded.folded([decode(text)])) > 3


def test_a_multiplied_text_holds_the_same_stacks_as_often(tmp_path: Path) -> None:
    path = tmp_path / "long"
    count = multiplied_perf_script.multiply(golden("whole"), path, events=1000)
    decoded = decode(path.read_bytes())
    once = decode(golden("whole"))
    times = count // once["events"].height
    assert decoded["events"].height == count >= 1000 and decoded["events"]["ts"].is_sorted()
    assert folded.folded([decoded]) == [
        f"{line.rpartition(' ')[0]} {int(line.rpartition(' ')[2]) * times}" for line in folded.folded([once])
    ]
