"""Recordings that are read in more than one piece, or hold more than the tables of one pass take."""

from __future__ import annotations

from pathlib import Path
from random import Random

import polars as pl
import pytest
from synthetic_pages import Pages
from test_ring_buffer import INNER, OUTER, decode, folder, losses

from swarmscope.trace.formats.ring_buffer import page_values, records

P = Pages()


def paged(stamped: list[tuple[int, bytes]], *, pages: Pages = P) -> bytes:
    """Records with their stamps, in as many pages as they need."""
    whole, body, size, first, now = b"", [], 0, 0, 0
    for ts, payload in stamped:
        record = pages.record(ts - now if body else 0, payload)
        if size + len(record) > pages.size - 16 or not body:
            whole += pages.page(first, *body) if body else b""
            body, size, first = [], 0, ts
            record = pages.record(0, payload)
        body.append(record)
        size += len(record)
        now = ts
    return whole + pages.page(first, *body)


@pytest.mark.parametrize("big", [False, True])
def test_more_names_than_a_pass_numbers_are_all_told(tmp_path: Path, big: bool) -> None:
    pages = Pages(big=big)
    names = [f"dev{n}" for n in range(page_values.ROOM + 3000)]
    data = paged([(n, pages.queue(name)) for n, name in enumerate(names)], pages=pages)
    assert len(data) < records.PIECE
    found = decode(folder(tmp_path, {0: data}, pages=pages), big=big)
    assert found["events"]["dev"].to_list() == names
    assert found["events"]["ts"].to_list() == list(range(len(names)))
    assert losses(found) == []


@pytest.mark.parametrize("cpus", [1, 2, 3, records.MERGED, 20])
def test_any_number_of_cpus_is_merged_as_a_stable_sort_would(tmp_path: Path, cpus: int) -> None:
    random = Random(cpus)
    lanes: dict[int, list[tuple[int, bytes]]] = {cpu: [] for cpu in range(cpus)}
    now, expected = 0, []
    for number in range(4000):
        now += random.choice((0, 0, 1, 5))
        cpu = random.randrange(cpus)
        lanes[cpu].append((now, P.queue(f"n{number}", pid=number)))
        expected.append((now, cpu, number))
    found = decode(folder(tmp_path, {cpu: paged(rows) for cpu, rows in lanes.items() if rows}))
    assert found["events"].select("ts", "cpu", "pid").rows() == sorted(expected, key=lambda row: row[:2])


def test_stacks_and_calls_go_on_from_one_piece_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lane(pid: int, times: int) -> bytes:
        rows: list[tuple[int, bytes]] = []
        for n in range(0, 40 * times, 40):
            rows += [
                (n, P.entry(OUTER, 0, pid=pid)),
                (n + 1, P.queue(f"dev{n % 7}", pid=pid)),
                (n + 2, P.stack(INNER + 4, OUTER + n % 3, pid=pid)),
                (n + 3, P.entry(INNER, 1, pid=pid)),
                (n + 7, P.exit(INNER, 1, 1, 5, pid=pid)),
                (n + 9, P.exit(OUTER, 0, 1, 9, pid=pid)),
            ]
        return paged(rows)

    path = folder(tmp_path, {0: lane(7, 1000), 1: lane(8, 100)})
    whole = decode(path)
    assert whole["events"]["stack"].null_count() == 0
    assert len(whole["calls"]) == 2200 and set(whole["calls"]["self"]) == {4}
    monkeypatch.setattr(records, "PIECE", 4096)

    pieces = decode(path)
    for table in ("events", "calls", "stacks", "frames", "losses"):
        assert pieces[table].equals(whole[table]), table


def test_the_function_tracer_may_name_many_functions(tmp_path: Path) -> None:
    many = page_values.ROOM
    symbols = "".join(f"{0xFFFFFFFF81000000 + 64 * n:x} T f{n}\n" for n in range(2 * many + 1))
    rows = [
        (n, (1).to_bytes(2, "little") + bytes(2) + (7).to_bytes(4, "little") + ip.to_bytes(8, "little") + up)
        for n in range(many)
        for ip in [0xFFFFFFFF81000000 + 128 * n]
        for up in [(ip + 64).to_bytes(8, "little")]
    ]
    path = folder(tmp_path, {0: paged(rows)})
    (path / "kallsyms").write_bytes(symbols.encode())
    calls = decode(path)["calls"]
    assert calls["function"].to_list() == [f"f{2 * n}" for n in range(many)]
    assert calls["parent"].to_list() == [f"f{2 * n + 1}" for n in range(many)]
    assert calls["dur"].dtype == pl.Int64
