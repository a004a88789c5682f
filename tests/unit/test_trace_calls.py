"""Call trees come out as they were, whatever fell into them; and what was lost is counted, never guessed."""

import itertools
import os
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmscope.trace import call_interrupts, calls
from swarmscope.trace.call_stream import CallStream
from swarmscope.trace.formats.base import Source, call_table
from tests.unit.synthetic_calls import CPUS, ENTER, EVENT, EXIT, GAP, NAMES, Row, World, edges

EXAMPLES = 10_000 if os.environ.get("SWARMSCOPE_LONG") else 300
COLUMNS = ("ts", "function", "parent", "depth", "dur", "self", "irq", "slept", "folded")
seeds = st.integers(0, 2**40)


def built(rows: list[Row], **options) -> tuple[list[tuple], dict[str, int]]:
    columns, losses = calls.build(edges(rows, **options))
    table = call_table(Source("t"), err=0, columns=columns)
    return table.select(COLUMNS).rows(), {what: count for what, count, _ in losses}


def true(world: World) -> list[tuple]:
    return [(world.rows[first].ts, *rest) for first, *rest in world.truth()]


@settings(max_examples=EXAMPLES, deadline=None)
@given(seeds, st.booleans())
def test_trees_come_out_as_they_were_run(seed: int, depths: bool) -> None:
    world = World(seed)
    got, losses = built(world.rows, depths=depths)
    assert got == true(world)
    assert not losses


@settings(max_examples=EXAMPLES, deadline=None)
@given(seeds)
def test_the_self_times_of_all_calls_are_the_durations_of_the_roots(seed: int) -> None:
    world = World(seed)
    got, losses = built(world.rows)
    assert not losses and sum(row[5] for row in got) == sum(row[4] for row in got if row[3] == 0)


@settings(max_examples=EXAMPLES, deadline=None)
@given(seeds, st.floats(0, 0.4), st.floats(0.6, 1))
def test_calls_over_the_ends_of_the_recording_are_left_out_and_counted(
    seed: int, start: float, end: float
) -> None:
    world = World(seed, plain=True)
    first, last = int(len(world.rows) * start), int(len(world.rows) * end)
    got, losses = built(world.rows[first:last])
    whole = [row for row in world.truth() if row[0] >= first]
    whole = [row for row in whole if world.calls[world.rows[row[0]].call].last < last]
    times = [(world.rows[row[0]].ts, row[1], *row[4:]) for row in whole]
    assert [(row[0], row[1], *row[4:]) for row in got] == times
    before = sum(call.first < first <= call.last < last for call in world.calls)
    after = sum(first <= call.first < last <= call.last for call in world.calls)
    assert losses.get("calls open at the beginning", 0) == before
    assert losses.get("calls open at the end", 0) == after and "broken calls" not in losses


@settings(max_examples=EXAMPLES, deadline=None)
@given(seeds, st.floats(0, 1), st.integers(1, 30), st.booleans())
def test_around_a_gap_no_call_comes_out_that_was_not_run(
    seed: int, where: float, many: int, depths: bool
) -> None:
    world = World(seed, plain=True)
    at = int(where * len(world.rows))
    cpu = world.rows[min(at, len(world.rows) - 1)].cpu
    lost = [row for row in world.rows[at:] if row.cpu == cpu][:many]
    rows = [row for row in world.rows if row not in lost]
    behind = next((n for n, row in enumerate(rows) if n >= at and row.cpu == cpu), len(rows))
    rows.insert(behind, Row(rows[behind - 1].ts, cpu, -1, GAP))
    got, _ = built(rows, depths=depths)
    truth = {row[0]: row for row in true(world)}
    first = {row.ts: row for row in rows if row.kind == ENTER}
    for row in got:
        whole = truth[row[0]]
        assert (row[1], row[4] + row[6]) == (whole[1], whole[4] + whole[6])
        # A task may have been on the other CPU in between, and nothing says so: what it called there
        # is its own time.
        if first[row[0]].pid not in {one.pid for one in lost}:
            assert row[4:] == whole[4:]


@settings(max_examples=EXAMPLES, deadline=None)
@given(seeds, st.floats(0, 1, exclude_max=True))
def test_a_single_lost_edge_breaks_the_call_it_belongs_to_and_no_other(seed: int, where: float) -> None:
    world = World(seed, plain=True)
    at = int(where * len(world.rows))
    got, losses = built(world.rows[:at] + world.rows[at + 1 :])
    truth = {row[:2] for row in true(world)}
    found = {row[:2] for row in got}
    # What the lost call stood between may look like recursion now.
    assert found <= truth and len(truth - found) <= 1 + sum(row[8] for row in got)
    if world.rows[at].kind == EVENT:
        assert "broken calls" not in losses


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 9), st.integers(-1, 3), st.booleans(), st.integers(-4, 6), st.integers(-1, 4)
        )
    )
)
def test_any_rows_at_all_give_calls_that_end_after_they_begin(rows: list[tuple]) -> None:
    ts, pid, leaves, function, depth = (
        (np.array(column) for column in zip(*rows, strict=True)) if rows else [[]] * 5
    )
    columns, _ = calls.build(
        calls.Edges(
            ts=np.cumsum(np.asarray(ts, np.int64)),
            cpu=np.asarray(pid, np.int32) % 2,
            pid=np.asarray(pid, np.int32),
            exit=np.asarray(leaves, np.bool_),
            function=np.asarray(function, np.int32),
            depth=np.asarray(depth, np.int32),
            retval=None,
            names=NAMES,
            comm={},
        )
    )
    assert all(dur >= 0 for dur in columns["dur"]) and all(depth >= 0 for depth in columns["depth"])


@settings(max_examples=EXAMPLES, deadline=None)
@given(seeds, st.lists(st.integers(0, 400), max_size=12), st.booleans(), st.integers(0, 3))
def test_calls_that_come_piece_by_piece_are_those_of_the_whole(
    seed: int, cuts: list[int], depths: bool, gaps: int
) -> None:
    world = World(seed)
    rows = list(world.rows)
    for n in range(gaps):
        at = (seed >> n) % len(rows)
        rows.insert(at, Row(rows[at].ts, rows[at].cpu, -1, GAP))
    whole = edges(rows, depths=depths)
    want, losses = calls.build(whole)
    stream = CallStream(CPUS)
    bounds = sorted({0, len(rows), *(cut for cut in cuts if cut < len(rows))})
    parts, order = [], []
    for begin, end in itertools.pairwise(bounds):
        part = {
            name: getattr(whole, name)[begin:end]
            for name in ("ts", "cpu", "pid", "exit", "function", "depth")
        }
        after = [next((row.kind for row in rows[end:] if row.cpu == cpu), EVENT) for cpu in range(CPUS)]
        columns, entries = stream.feed(
            replace(whole, **part), next_gap=np.array([kind == GAP for kind in after])
        )
        parts.append(pl.DataFrame(columns))
        order += entries.tolist()
    got = pl.concat(parts)[np.argsort(np.array(order, np.int64), kind="stable")]
    assert got.rows() == pl.DataFrame(want).rows()
    assert stream.finish() == losses


def one_task(*names: str) -> list[Row]:
    """``+f`` enters, ``-f`` leaves, ``.`` is an event of another task on that CPU; 10 ns each."""
    rows, depth = [], 0
    for number, name in enumerate(names):
        ts = 10 * number
        if name == ".":
            rows.append(Row(ts, 0, 12, EVENT))
            continue
        depth -= name[0] == "-"
        rows.append(Row(ts, 0, 11, ENTER if name[0] == "+" else EXIT, name[1:], depth))
        depth += name[0] == "+"
    return rows


def test_a_task_that_was_off_its_cpu_within_a_call_slept_in_all_calls_around() -> None:
    got, _ = built(one_task("+f0", "+f1", ".", "-f1", "+f2", "-f2", "-f0"))
    assert [(row[1], row[7]) for row in got] == [("f0", True), ("f1", True), ("f2", False)]


def test_an_interrupt_is_its_own_tree_and_its_time_nobody_elses() -> None:
    got, _ = built(one_task("+f0", "+irq_enter_rcu", "+f1", "-f1", "-irq_enter_rcu", "-f0"))
    assert [row[1:7] for row in got] == [
        ("f0", "", 0, 20, 20, 30),
        ("irq_enter_rcu", "", 0, 30, 20, 0),
        ("f1", "irq_enter_rcu", 1, 10, 10, 0),
    ]


def test_softirq_work_that_a_task_starts_itself_is_a_call_like_any_other() -> None:
    got, _ = built(one_task("+f0", "+handle_softirqs", "-handle_softirqs", "-f0"))
    assert [row[1:7] for row in got] == [("f0", "", 0, 30, 20, 0), ("handle_softirqs", "f0", 1, 10, 10, 0)]


def test_a_recorder_that_knows_hard_interrupts_needs_no_names() -> None:
    rows = one_task("+f0", "+f1", "+f2", "-f2", "-f1", "-f0")
    hard = np.array([False, True, True, True, True, False])
    columns, _ = calls.build(replace(edges(rows), hardirq=hard))
    assert list(columns["parent"]) == ["", "", "f1"] and list(columns["irq"]) == [30, 0, 0]


def test_direct_recursion_is_one_call_that_says_how_often() -> None:
    got, _ = built(one_task("+f0", "+f0", "+f1", "-f1", "-f0", "-f0"))
    assert [row[1:6] + row[8:] for row in got] == [("f0", "", 0, 50, 40, 1), ("f1", "f0", 1, 10, 10, 0)]


def test_the_duration_that_the_tracer_measured_comes_before_the_stamps() -> None:
    rows = one_task("+f0", "+f1", "-f1", "-f0")
    columns, _ = calls.build(replace(edges(rows), dur=np.array([-1, -1, 4, 24])))
    assert list(columns["dur"]) == [24, 4] and list(columns["self"]) == [20, 4]


def test_values_returned_are_null_where_they_were_not_recorded() -> None:
    rows = one_task("+f0", "+f1", "-f1", "-f0")
    given_back = np.array([0, 0, -22, 7])
    columns, _ = calls.build(replace(edges(rows), retval=given_back, returned=np.array([0, 0, 1, 0], bool)))
    assert list(columns["retval"]) == [None, -22]
    columns, _ = calls.build(replace(edges(rows), retval=given_back))
    assert list(columns["retval"]) == [7, -22]


def test_an_exit_without_a_name_ends_the_call_of_its_depth() -> None:
    rows = one_task("+f0", "+f1", "-f1", "-f0")
    function = edges(rows).function.copy()
    function[2:] = calls.ANY
    columns, losses = calls.build(replace(edges(rows), function=function))
    assert list(columns["function"]) == ["f0", "f1"] and not losses


def test_a_gap_that_may_be_anybodys_breaks_every_open_call() -> None:
    rows = one_task("+f0", ".", "-f0", "+f1", "-f1")
    function = edges(rows).function.copy()
    function[1] = calls.GAP_EVERYWHERE
    columns, losses = calls.build(replace(edges(rows), function=function))
    assert list(columns["function"]) == ["f1"] and losses[0][:2] == ("broken calls", 1)


def test_the_idle_tasks_of_two_cpus_are_two() -> None:
    rows = [
        Row(0, 0, 0, ENTER, "f0", 0),
        Row(1, 1, 0, ENTER, "f1", 0),
        Row(2, 0, 0, EXIT, "f0", 0),
        Row(3, 1, 0, EXIT, "f1", 0),
    ]
    got, losses = built(rows)
    assert [(row[1], row[2], row[4]) for row in got] == [("f0", "", 2), ("f1", "", 2)] and not losses


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("do_IRQ", 2),
        ("common_interrupt", 2),
        ("asm_sysvec_apic_timer_interrupt", 1),
        ("sysvec_apic_timer_interrupt", 2),
        ("__sysvec_apic_timer_interrupt", 3),
        ("smp_apic_timer_interrupt", 2),
        ("irq_enter_rcu", 3),
        ("irq_exit_rcu", 4),
        ("__irq_exit_rcu", 5),
        ("gic_handle_irq", 3),
        ("handle_softirqs", call_interrupts.WORK),
        ("ip_rcv", 0),
        ("do_IRQ_poll", 0),
    ],
)
def test_a_function_is_known_by_its_name_as_a_step_of_an_interrupt(name: str, stage: int) -> None:
    assert call_interrupts.stage(name) == stage


def test_ten_million_numbers_of_tasks_and_cpus_are_no_ten_million_tables() -> None:
    rows = [
        Row(0, 2_000_000_000, 2_000_000_000, ENTER, "f0", 0),
        Row(1, 2_000_000_000, 2_000_000_000, EXIT, "f0", 0),
    ]
    assert [row[1] for row in built(rows)[0]] == ["f0"]
