"""Two recordings against each other: what is added, what differs, and that both ways say the same."""

from __future__ import annotations

import random

import polars as pl
import pytest

from swarmscope.compare.recordings import Recording, RecordingComparison, compare_recordings
from swarmscope.trace import schema

HOST_PATH = ("__x64_sys_sendto", "ip_output", "__dev_queue_xmit")
OVERLAY = ("__x64_sys_sendto", "ip_output", "br_forward", "vxlan_xmit", "__dev_queue_xmit")


def recording(
    name: str, stacks: dict[tuple[str, ...], int], calls: dict[str, tuple[int, int, int]] | None = None
):
    """``stacks``: how many events have which, outermost first; ``calls``: number, ns of each, own ns."""
    symbols = sorted({symbol for stack in stacks for symbol in stack})
    rows = [number for number, count in enumerate(stacks.values()) for _ in range(count)]
    events = {
        "ts": list(range(0, 1000 * len(rows), 1000)),
        "event": ["net:net_dev_queue"] * len(rows),
        "stack": rows,
    }
    flat = [(function, *one[1:]) for function, one in (calls or {}).items() for _ in range(one[0])]
    return Recording(
        name,
        "test",
        {
            "events": schema.conform("events", pl.DataFrame(events)),
            "stacks": schema.conform(
                "stacks",
                pl.DataFrame(
                    {
                        "stack": range(len(stacks)),
                        "frames": [[symbols.index(symbol) for symbol in stack] for stack in stacks],
                    }
                ),
            ),
            "frames": schema.conform(
                "frames",
                pl.DataFrame(
                    {"frame": range(len(symbols)), "symbol": symbols, "module": [""] * len(symbols)}
                ),
            ),
            "calls": schema.conform(
                "calls",
                pl.DataFrame(
                    {
                        "ts": range(len(flat)),
                        "function": [one[0] for one in flat],
                        "dur": [one[1] for one in flat],
                        "self": [one[2] for one in flat],
                    },
                    schema_overrides={"function": pl.String},
                ),
            ),
        },
    )


def names(found: RecordingComparison, *states: str) -> set[str]:
    return {one.symbol for one in found.functions_in(*states)}


def test_functions_that_only_one_side_has_are_added_or_gone() -> None:
    found = compare_recordings(recording("a", {HOST_PATH: 100}), recording("b", {OVERLAY: 100}))
    assert names(found, "added") == {"br_forward", "vxlan_xmit"}
    assert names(found, "common") == set(HOST_PATH)
    assert names(found, "gone", "baseline only", "subject only") == set()


def test_what_was_seen_too_rarely_is_not_called_added() -> None:
    found = compare_recordings(
        recording("a", {HOST_PATH: 1000}), recording("b", {HOST_PATH: 1000, ("tcp_retransmit_skb",): 3})
    )
    assert names(found, "subject only") == {"tcp_retransmit_skb"}
    short = compare_recordings(
        recording("a", {HOST_PATH: 20}), recording("b", {HOST_PATH: 1000, OVERLAY: 40})
    )
    assert names(short, "added") == set(), "of 20 stacks one would not be expected to have it"


def test_a_recording_against_itself_differs_in_nothing() -> None:
    one = recording("a", {HOST_PATH: 3, OVERLAY: 4}, {"ip_rcv": (5, 900, 300)})
    found = compare_recordings(one, one)
    assert not found.functions_in("added", "gone", "subject only", "baseline only")
    assert all(change.difference == 0 for change in found.events)
    assert all(change.baseline == change.subject for change in found.functions)
    assert found.notes == ()


@pytest.mark.parametrize("seed", range(20))
def test_the_other_way_round_is_the_negative(seed: int) -> None:
    chance = random.Random(seed)
    pool = [f"f{number}" for number in range(12)]

    def side(name: str) -> Recording:
        stacks = {
            tuple(chance.sample(pool, chance.randint(1, 5))): chance.randint(1, 60)
            for _ in range(chance.randint(1, 9))
        }
        calls = {chance.choice(pool): (chance.randint(1, 9), chance.randint(1, 999), 1) for _ in range(4)}
        return recording(name, stacks, calls)

    a, b = side("a"), side("b")
    forward, back = compare_recordings(a, b), compare_recordings(b, a).mirrored()
    assert {one.symbol: one for one in forward.functions} == {one.symbol: one for one in back.functions}
    assert forward.events == back.events
    assert (forward.baseline, forward.subject) == (back.baseline, back.subject)


def test_a_function_twice_in_one_stack_is_in_one_stack() -> None:
    twice = ("ip_output", "vxlan_xmit", "ip_output")
    found = compare_recordings(recording("a", {twice: 7}), recording("b", {twice: 7}))
    assert {one.symbol: one.subject.stacks for one in found.functions} == {"ip_output": 7, "vxlan_xmit": 7}


def test_calls_give_cumulative_and_self_time() -> None:
    found = compare_recordings(
        recording("a", {}, {"ip_rcv": (10, 900, 300)}),
        recording("b", {}, {"ip_rcv": (10, 1500, 300), "vxlan_rcv": (10, 600, 500)}),
    )
    rows = {one.symbol: one for one in found.functions}
    assert (rows["ip_rcv"].baseline.total, rows["ip_rcv"].subject.total) == (9000, 15000)
    assert (rows["vxlan_rcv"].state, rows["vxlan_rcv"].subject.own) == ("added", 5000)


def test_sides_that_cannot_be_compared_say_why() -> None:
    found = compare_recordings(recording("a", {HOST_PATH: 9}), recording("b", {}, {"ip_rcv": (9, 1, 1)}))
    assert any("b has no stacks" in note for note in found.notes)
    assert any("a has no calls" in note for note in found.notes)
