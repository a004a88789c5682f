"""Whatever happens to the bytes: nothing but TraceFileError, and no row before the damage changes."""

import gzip
import io
from pathlib import Path

import polars as pl
import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st

from swarmscope.errors import TraceFileError
from swarmscope.trace import formats

GOLDEN = Path(__file__).parent.parent / "golden"
TEXTS = {
    "perf-script": (GOLDEN / "perf-script" / "odd-comm-user-frames.txt").read_bytes()[:9000],
    "ftrace-text": (GOLDEN / "ftrace-text" / "stacks-tgid.txt").read_bytes()[:6000],
    "perf-stat-csv": (GOLDEN / "perf-stat-csv" / "all.csv").read_bytes(),
    "bpftrace-json-hops": (GOLDEN / "bpftrace-json-hops" / "overlay.json").read_bytes(),
    "bpftrace-json-histograms": (GOLDEN / "bpftrace-json-histograms" / "latency.json").read_bytes(),
    "losses-json": b'{"overrun": 0, "lost_chunks": 12, "dropped": 3}\n',
}
TABLE = {
    "perf-script": "events",
    "ftrace-text": "events",
    "perf-stat-csv": "counts",
    "bpftrace-json-hops": "hops",
    "bpftrace-json-histograms": "histograms",
    "losses-json": "losses",
}


def decode(name: str, data: bytes) -> formats.Decoded | None:
    try:
        return formats.decode(name, io.BytesIO(data), formats.Source("t", kernel="k"))
    except TraceFileError as error:
        assert "t: byte " in str(error)
        return None


def rows(decoded: formats.Decoded, name: str) -> list[tuple]:
    """Rows with their stacks spelled out, so that numbering does not matter."""
    frame = decoded[TABLE[name]]
    if TABLE[name] != "events":
        return frame.rows()
    raw = decoded["frames"]["raw"].to_list()
    stacks = {n: tuple(raw[f] for f in frames) for n, frames in decoded["stacks"].rows()}
    return [
        (*row[:-1], stacks.get(stack))
        for row, stack in zip(frame.drop("stack").rows(), frame["stack"], strict=True)
    ]


WHOLE = {name: rows(decode(name, data), name) for name, data in TEXTS.items()}


def undamaged_before(name: str, at: int) -> int:
    """How many rows of the whole file lie completely before byte ``at``."""
    text = TEXTS[name][:at]
    if name == "perf-script":
        return text.count(b"\n\n")
    if name == "ftrace-text":
        # An event is complete with the first line of the next one: its stack may follow.
        return max(text.count(b": net_dev_start_xmit:") - 1, 0)
    if name == "perf-stat-csv":
        return sum(line[:1].isdigit() for line in text.split(b"\n")[:-1])
    if name == "bpftrace-json-hops":
        return text.count(b'"], "') if b'"], "' in text else 0
    return 0


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_the_undamaged_text_decodes_without_a_damage_record(name: str) -> None:
    data = TEXTS[name]
    if name == "perf-script":
        data = data[: data.rfind(b"\n\n") + 2]
    if name == "ftrace-text":
        data = data[: data.rfind(b"\n") + 1]
    assert "damaged" not in decode(name, data)["losses"]["what"].to_list()


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(sorted(TEXTS)), st.floats(0, 1, exclude_max=True))
def test_a_cut_file_keeps_the_rows_before_the_cut_and_invents_none(name: str, where: float) -> None:
    at = int(len(TEXTS[name]) * where)
    decoded = decode(name, TEXTS[name][:at])
    sure = undamaged_before(name, at)
    if decoded is None:
        assert sure == 0
        return
    got = rows(decoded, name)
    if TABLE[name] != "losses":
        assert got[:sure] == WHOLE[name][:sure]
        assert len(got) <= len(WHOLE[name])
        # all but the stack of a row that was cut within it
        width = 17 if TABLE[name] == "events" else len(got[0]) if got else 0
        assert [row[:width] for row in got] == [row[:width] for row in WHOLE[name][: len(got)]]


@settings(max_examples=800, deadline=None)
@given(st.sampled_from(sorted(TEXTS)), st.floats(0, 1, exclude_max=True), st.integers(0, 255))
@example("perf-script", 0.0, 10)
@example("ftrace-text", 0.5, 10)
@example("ftrace-text", 0.2244459091327831, 0)
def test_a_flipped_byte_changes_no_row_before_it_and_few_after(name: str, where: float, value: int) -> None:
    data = bytearray(TEXTS[name])
    at = int(len(data) * where)
    data[at] = value
    decoded = decode(name, bytes(data))
    sure = undamaged_before(name, at)
    if decoded is None:
        assert sure == 0
        return
    got = rows(decoded, name)
    if TABLE[name] == "losses":
        return
    assert got[:sure] == WHOLE[name][:sure]
    assert len(got) <= len(WHOLE[name]) + 1
    survivors = [row for row in WHOLE[name] if row in got]
    assert len(survivors) >= len(WHOLE[name]) - (12 if TABLE[name] == "histograms" else 2)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(TEXTS)), st.binary(max_size=300))
def test_random_bytes_are_refused_or_decode_to_nothing_wild(name: str, data: bytes) -> None:
    decoded = decode(name, data)
    assert decoded is None or isinstance(decoded["losses"], pl.DataFrame)


@pytest.mark.parametrize("name", ["perf-script", "ftrace-text", "perf-stat-csv", "bpftrace-json-hops"])
def test_damage_is_recorded_with_file_and_byte_offset(name: str) -> None:
    data = TEXTS[name]
    cut = data[: len(data) * 2 // 3].rsplit(b"=" if b"skbaddr=" in data else b",", 1)[0]
    found = decode(name, cut)["losses"].filter(pl.col("what") == "damaged")
    assert found.height in (1, 2)
    at = int(found["detail"].to_list()[-1].split("byte ")[1].split(":")[0])
    assert len(cut) - 1000 < at <= len(cut)


@pytest.mark.parametrize("cut", [100, 400])
@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_a_broken_compressed_stream_gives_what_came_before_it(tmp_path: Path, kind: str, cut: int) -> None:
    from swarmscope import store

    text = (GOLDEN / "ftrace-text" / "overrun.txt").read_bytes() * 20
    packed = gzip.compress(text) if kind == "gz" else zstandard.ZstdCompressor().compress(text)
    path = tmp_path / f"x.txt.{kind}"
    path.write_bytes(packed[: len(packed) - cut])
    with store.open_packed(path) as file:
        try:
            decoded = formats.decode("ftrace-text", file, formats.Source("x", kernel="k"))
        except TraceFileError:
            return
    assert "damaged" in decoded["losses"]["what"].to_list()


def test_many_damaged_places_are_summed_up() -> None:
    line = b"ping-1 [000] b....  1.000001: netif_rx: len=1\n"
    decoded = decode("ftrace-text", b"# tracer: nop\n" + (line + b"garbage\n") * 50)
    assert decoded["events"].height == 50
    damaged = decoded["losses"].filter(pl.col("what") == "damaged")
    assert damaged["count"].sum() == 50 and damaged.height == 21
