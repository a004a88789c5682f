"""Maps of any bpftrace script, as text and as JSON: recordings of one script, and the forms it may print."""

from __future__ import annotations

import functools
import io
import json
import os
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmscope.errors import TraceFileError
from swarmscope.trace.formats import (
    bpftrace_histograms,
    bpftrace_json,
    bpftrace_maps,
    bpftrace_stacks,
    bpftrace_text,
)
from swarmscope.trace.formats.base import Decoded, Source

GOLDEN = Path(__file__).parent.parent / "golden"
TEXT = (GOLDEN / "bpftrace" / "maps.txt").read_bytes()
JSON = (GOLDEN / "bpftrace" / "maps.json").read_bytes()
EXAMPLES = 10_000 if os.environ.get("SWARMSCOPE_LONG") else 300
OPEN_LOW, OPEN_HIGH = -(1 << 62), 1 << 62


def decode(module: ModuleType, data: bytes) -> Decoded:
    decoded: Decoded = module.decode(io.BytesIO(data), Source("t", host="h", kernel="k"))
    return decoded


def counts(decoded: Decoded) -> dict[str, int]:
    return dict(decoded["counts"].select("event", "count").iter_rows())


def bars(decoded: Decoded) -> list[tuple[Any, ...]]:
    return decoded["histograms"].select("from_event", "to_event", "low", "high", "count").rows()


def losses(decoded: Decoded) -> dict[str, int]:
    return dict(decoded["losses"].group_by("what").agg(pl.col("count").sum()).iter_rows())


def plain(data: bytes) -> dict[str, int]:
    """Numbers of maps in JSON without stacks, read by Python's own means."""
    found = {}
    for line in data.splitlines():
        entry = json.loads(line) if line else {}
        for name, content in (entry.get("data") or {}).items() if entry.get("type") == "map" else ():
            for key, value in content.items() if isinstance(content, dict) else [(None, content)]:
                if isinstance(value, int) and "\n" not in (key or ""):
                    found[name + (f"[{key.replace(', ', ',')}]" if key else "")] = value
    return found


def test_every_number_of_the_json_is_a_count() -> None:
    found = counts(decode(bpftrace_maps, JSON))
    assert plain(JSON).items() <= found.items() and len(plain(JSON)) == 7
    assert found["@stats.count"] == found["@count[ping]"] == found["@statsk[ping].count"]
    assert found["@stats.total"] == found["@sum"]


def test_text_and_json_of_one_script_are_the_same_tables() -> None:
    text, other = decode(bpftrace_text, TEXT), decode(bpftrace_maps, JSON)
    assert list(counts(text)) == list(counts(other)) and len(counts(text)) > 15
    steady = [name for name in counts(text) if re.search(r"avg|mn|mx|neg3|plain|strk|average", name)]
    assert [counts(text)[name] for name in steady] == [counts(other)[name] for name in steady]
    assert [bar[:4] for bar in bars(text)] == [bar[:4] for bar in bars(other)]
    assert text["frames"].equals(other["frames"]) and text["stacks"].equals(other["stacks"])
    assert losses(text) == losses(other) == {"earlier prints": 1, "printed lines": 1, "values not kept": 3}
    assert set(text["histograms"]["collector"]) == {"bpftrace"} == set(text["counts"]["collector"])


def test_histograms_have_bounds_in_the_maps_own_unit() -> None:
    found = {bar[:2]: bar[2:4] for bar in bars(decode(bpftrace_text, TEXT))}
    assert found == {
        ("@big", ""): (1 << 31, 1 << 32),
        ("@bylen", "ping,1"): (512, 1024),
        ("@len", ""): (512, 1024),
        ("@lin", ""): (600, 800),
        ("@low", "lo"): (100, OPEN_HIGH),
        ("@neg", ""): (OPEN_LOW, 0),
        ("@z", ""): (0, 1),
    }


def test_stacks_in_keys_run_from_the_outermost_and_are_stacks() -> None:
    decoded = decode(bpftrace_text, TEXT)
    chain = "ip_push_pending_frames;ip_output;ip_finish_output2;__dev_queue_xmit"
    assert f"@st[{chain}]" in counts(decoded)
    assert "@st2[ping,ip_output;ip_finish_output2;__dev_queue_xmit,7]" in counts(decoded)
    names = decoded["frames"]["symbol"]
    stacks = [";".join(names[n] for n in frames) for frames in decoded["stacks"]["frames"].to_list()]
    assert stacks[0] == chain and len(stacks) == 3


@pytest.mark.parametrize(
    ("bar", "low", "high"),
    [
        ("[0]", 0, 1),
        ("[1]", 1, 2),
        ("[-5]", -5, -4),
        ("[2, 4)", 2, 4),
        ("[512, 1K)", 512, 1024),
        ("[1M, 2M)", 1 << 20, 1 << 21),
        ("[512G, 1T)", 1 << 39, 1 << 40),
        ("[1P, 2P)", 1 << 50, 1 << 51),
        ("[1E, 2E)", 1 << 60, 1 << 61),
        ("[4E, 8E)", OPEN_HIGH, OPEN_HIGH),
        ("(..., 0)", OPEN_LOW, 0),
        ("[-10, 0)", -10, 0),
        ("[200, ...)", 200, OPEN_HIGH),
    ],
)
def test_every_bar_of_a_histogram_is_read(bar: str, low: int, high: int) -> None:
    text = f"@h[a, b]:\n{bar:<16} 7 |@@@   |\n[1024K, 2048K) 0 |  |\n\n"
    assert bars(decode(bpftrace_text, text.encode())) == [("@h", "a,b", low, high, 7)]


def test_a_key_may_hold_anything() -> None:
    for key in ("a: b [0] x", "]: 5", "a, b", "@x[1]: 2", "[", "x]"):
        found = counts(decode(bpftrace_text, f"@c[{key}]: 41\n".encode()))
        assert found == {f"@c[{key.replace(', ', ',')}]": 41}


def test_bounds_that_overflowed_in_json_are_mended() -> None:
    wrapped = [(1 << 30, (1 << 31) - 1), (-(1 << 31), 0), (1, 1), (2, 3)]
    items = [{"min": low, "max": high, "count": n + 1} for n, (low, high) in enumerate(wrapped)]
    line = json.dumps({"type": "hist", "data": {"@h": items}}) + "\n"
    expected = [(1 << 30 + n, 1 << 31 + n, n + 1) for n in range(4)]
    assert [bar[2:] for bar in bars(decode(bpftrace_maps, line.encode()))] == expected
    own = json.dumps({"type": "hist", "data": {"@ns": {"1,2,3,4,5,6,0": items}}}) + "\n"
    rows = bpftrace_histograms.decode(io.BytesIO(own.encode()), Source("t"))["histograms"]
    assert rows.select("low", "high", "count").rows() == expected


def test_a_map_that_is_printed_again_stands_as_it_was_last() -> None:
    text = b"@c[a]: 1\n@c[b]: 2\n@x: 1\n@c[a]: 5\n@x: 2\n@x: 3\n"
    decoded = decode(bpftrace_text, text)
    assert counts(decoded) == {"@c[a]": 5, "@x": 3} and losses(decoded) == {"earlier prints": 3}
    lines = [{"@c": {"a": 1, "b": 2}}, {"@c": {"a": 5}}]
    data = "".join(json.dumps({"type": "map", "data": line}) + "\n" for line in lines).encode()
    assert counts(decode(bpftrace_maps, data)) == {"@c[a]": 5}


def test_stacks_that_look_alike_are_summed_up() -> None:
    text = b"@s[\n    f+1\n]: 2\n@s[\n    f+9\n]: 3\n@s[\n    f+1\n]: 1\n"
    assert counts(decode(bpftrace_text, text)) == {"@s[f]": 1}
    assert counts(decode(bpftrace_text, text[: text.rindex(b"@s")])) == {"@s[f]": 5}
    line = b'{"type": "map", "data": {"@s": {"\\n    f+1\\n": 2, "\\n    f+9\\n": 3}}}\n'
    assert counts(decode(bpftrace_maps, line)) == {"@s[f]": 5}


def test_two_stacks_in_one_key_and_raw_ones_are_read() -> None:
    text = b"@s[\n    f+1\n    g+2\n, \n    0x7f1234567890\n, x]: 2\n@r[\n    ffffffff81e63976\n]: 1\n"
    decoded = decode(bpftrace_text, text)
    assert counts(decoded) == {"@s[g;f,0x7f1234567890,x]": 2, "@r[ffffffff81e63976]": 1}
    modules = dict(decoded["frames"].select("raw", "module").iter_rows())
    assert modules == {"f": "", "g": "", "0x7f1234567890": "[user]", "ffffffff81e63976": ""}


def test_lost_events_and_refused_writes_are_losses() -> None:
    assert losses(decode(bpftrace_text, b"Attaching 2 probes...\nLost 15 events\n")) == {"lost events": 15}
    lines = (
        b'{"type": "lost_events", "data": {"events": 15}}\n'
        b'{"type": "helper_error", "data": {"msg": "x", "helper": "map_update_elem", "retcode": -7}}\n'
    )
    assert losses(decode(bpftrace_maps, lines)) == {"lost events": 15, "helper errors": 1}


@pytest.mark.parametrize(
    ("text", "at"),
    [
        (b"Attaching 1 probe...\n@h: \n@x: 1\n", 21),
        (b"@x: 1\n[1, 2)   7 |@@|\n", 6),
        (b"@x: 1\n@s[\n    f+1\nwhat\n", 6),
        (b"@x: 1\n@y: 2", 6),
        (b"@x: 1\n@y\n", 6),
        (b"@x: 99999999999999999999\n@y: 9999999999999999999\n", 25),
    ],
)
def test_damage_in_text_has_its_offset(text: bytes, at: int) -> None:
    detail = decode(bpftrace_text, text)["losses"].filter(what="damaged")["detail"].to_list()
    assert len(detail) == 1 and f"byte {at}: " in detail[0]


@pytest.mark.parametrize(
    "line",
    [
        b'{"type": "map", "data": {"@x": {"a": 1}',
        b"[" * 5000,
        b"5",
        b'{"type": "map", "data": {"x": 1}}',
        b'{"type": "map", "data": {"@x": true}}',
        b'{"type": "map", "data": {"@x": 99999999999999999999}}',
        b'{"type": "hist", "data": {"@x": [{"min": 1, "max": 2}]}}',
        b'{"type": "stats", "data": {"@x": {"count": null, "average": [], "total": {}}}}',
        b'{"type": ["a"], "data": 1}',
    ],
)
def test_damage_in_json_has_its_offset_and_costs_one_line(line: bytes) -> None:
    good = b'{"type": "map", "data": {"@good": 1}}\n'
    decoded = decode(bpftrace_maps, good + line + b"\n" + good.replace(b"good", b"fine"))
    assert counts(decoded) == {"@good": 1, "@fine": 1}
    detail = decoded["losses"].filter(what="damaged")["detail"].to_list()
    assert len(detail) == 1 and f"byte {len(good)}: " in detail[0]


def test_each_kind_of_output_is_recognised_and_no_other() -> None:
    readers = {
        "bpftrace-json-hops": bpftrace_json,
        "bpftrace-json-histograms": bpftrace_histograms,
        "bpftrace-json-stacks": bpftrace_stacks,
    }
    for folder, reader in readers.items():
        for path in (GOLDEN / folder).glob("*.json"):
            if ".expected." not in path.name:
                head = path.read_bytes()[: 1 << 16]
                found = [r for r in (*readers.values(), bpftrace_maps, bpftrace_text) if r.looks_like(head)]
                assert found == [reader], path
    assert bpftrace_maps.looks_like(JSON) and not bpftrace_maps.looks_like(TEXT)
    for text in (TEXT, TEXT[TEXT.index(b"@len") :], b"@x: 5\r\n", b"@[\n    f\n]: 1\n"):
        assert bpftrace_text.looks_like(text)
    assert not bpftrace_text.looks_like(JSON)
    others = [*GOLDEN.glob("ftrace*/*.txt"), *GOLDEN.glob("perf*/*.txt"), *GOLDEN.glob("perf-stat-csv/*.csv")]
    for text in (*(path.read_bytes() for path in others), b"", b"@user: hello\n", b'{"a": 1}\n'):
        assert not bpftrace_text.looks_like(text) and not bpftrace_maps.looks_like(text)


def test_files_of_something_else_are_refused() -> None:
    for module in (bpftrace_text, bpftrace_maps):
        with pytest.raises(TraceFileError):
            decode(module, b"hello world\n" * 500)
        assert losses(decode(module, b"")) == {"damaged": 1}


def entries(decoded: Decoded | None) -> list[tuple[Any, ...]]:
    return [] if decoded is None else [*decoded["counts"].rows(), *decoded["histograms"].rows()]


def guarded(module: ModuleType, data: bytes) -> Decoded | None:
    try:
        return decode(module, data)
    except TraceFileError:
        return None


@functools.cache
def sure(kind: str, border: int) -> list[tuple[Any, ...]]:
    """What the text up to ``border`` holds and the whole one too: a map may be printed again."""
    module, whole = (bpftrace_text, TEXT) if kind == "text" else (bpftrace_maps, JSON)
    after = entries(decode(module, whole))
    return [row for row in entries(guarded(module, whole[:border])) if row in after]


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.sampled_from(["text", "json"]), st.floats(0, 1, exclude_max=True), st.integers(0, 256))
def test_damage_anywhere_changes_nothing_before_it(kind: str, where: float, value: int) -> None:
    module, whole = (bpftrace_text, TEXT) if kind == "text" else (bpftrace_maps, JSON)
    at = int(len(whole) * where)
    data = whole[:at] if value == 256 else whole[:at] + bytes([value]) + whole[at + 1 :]
    # What stands wholly before the damage: the maps up to the line before it that begins one. The last
    # of them may go on in the line hit, and one printed twice may be dropped by its second print.
    border = whole.rfind(b"\n@" if kind == "text" else b"\n{", 0, whole.rfind(b"\n", 0, at) + 1) + 1
    found = set(entries(guarded(module, data)))
    dropped = [row for row in sure(kind, border) if row not in found]
    assert all(str(row).count("@count") for row in dropped)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(["text", "json"]), st.binary(max_size=300))
def test_random_bytes_are_refused_or_decode_to_nothing_wild(kind: str, data: bytes) -> None:
    module, start = (bpftrace_text, b"@x: 1\n") if kind == "text" else (bpftrace_maps, b'{"type": "x"}\n')
    guarded(module, data)
    decode(module, start + data)
