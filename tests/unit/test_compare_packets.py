"""Packets from hops: matched, one-sided, ambiguous; and functions that are neither here nor there."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest

from swarmscope.compare import Side, compare, counts, packets
from tests.unit.synthetic_run import Synthetic, make


@pytest.fixture(scope="module")
def made() -> Synthetic:
    return make(plain=4, traced=2, count=20)


def side(made: Synthetic, arm: str, **tables: pl.DataFrame) -> Side:
    return Side(made.run, {**made.tables, **tables}, arm, made.kallsyms, made.facts)


def test_a_request_and_its_reply_are_two_packets(made: Synthetic) -> None:
    followed = packets.follow(side(made, "subject"))
    assert followed.tally.matched == 2 * 2 * 20
    directions = followed.packets.group_by("direction").len().sort("direction")
    assert directions.rows() == [("reply", 40), ("request", 40)]


def test_a_packet_that_nobody_saw_arrive_is_one_sided_and_counts_nowhere() -> None:
    made = make(plain=4, traced=2, count=50, drop_arrival=0.2)
    found = compare(made.run, made.tables, made.kallsyms)
    assert found.subject.packets.one_sided > 10
    assert found.subject.packets.matched + found.subject.packets.one_sided == 200
    assert {x.event: x.subject for x in found.counts}["net:net_dev_queue"] == 4.0
    assert any("one-sided" in reason.text for reason in found.verdict.reasons)


def test_a_key_sent_twice_in_a_trial_is_ambiguous(made: Synthetic) -> None:
    hops = made.tables["hops"].sort("ts")
    key = hops.filter(pl.col("arm") == "subject").item(0, "key")
    again = hops.filter(pl.col("key") == key).with_columns(pl.col("ts") + 200_000)
    followed = packets.follow(side(made, "subject", hops=pl.concat([hops, again])))
    assert (followed.tally.ambiguous, followed.tally.matched) == (1, 79)


def test_hops_without_a_key_or_a_trial_are_tallied_as_outside(made: Synthetic) -> None:
    hops = made.tables["hops"]
    stray = hops.filter(pl.col("arm") == "subject").head(3).with_columns(key=pl.lit(""))
    followed = packets.follow(side(made, "subject", hops=pl.concat([hops, stray])))
    assert followed.tally.outside == 3


def test_reused_skb_addresses_do_not_mix_packets(made: Synthetic) -> None:
    one = side(made, "subject")
    followed = packets.follow(one)
    events = packets.attribute(one, followed, "perf-record")
    per_packet = events.group_by("packet").len()["len"].unique().to_list()
    assert len(per_packet) == 1, "every packet of this flow has the same events"
    assert made.tables["hops"]["skb"].n_unique() == 2


def test_a_hand_over_from_the_wire_is_marked_and_no_other(made: Synthetic) -> None:
    one = side(made, "subject")
    events = packets.attribute(one, packets.follow(one), "perf-record")
    marked = events.filter("after_wire").select("event", "dev", "role").unique().sort("event").rows()
    assert marked == [("net:netif_rx", "eth0", "nic"), ("net:netif_rx_entry", "eth0", "nic")]
    assert "wire" not in events["role"].to_list()


def test_collectors_that_disagree_are_reported(made: Synthetic) -> None:
    events = made.tables["events"]
    drop = (
        (pl.col("collector") == "perf-record")
        & (pl.col("event") == "net:netif_rx")
        & (pl.col("dev") == "veth0")
    )
    found = compare(made.run, {**made.tables, "events": events.filter(~drop)}, made.kallsyms)
    assert found.count_differences == (
        "subject: net:netif_rx: 3.00 per packet in ftrace-events, 2.00 in perf-record",
    )


def test_without_events_the_hops_are_counted(made: Synthetic) -> None:
    tables = {name: frame for name, frame in made.tables.items() if name != "events"}
    found = compare(made.run, tables, made.kallsyms)
    assert found.count_source == "skb-path"
    assert {x.event: x.subject for x in found.counts}["net:net_dev_queue"] == 4.0


def test_perf_stat_is_per_packet_sent_and_only_once_a_kernel(made: Synthetic) -> None:
    doubled = made.tables["counts"].with_columns(host=pl.lit("n2"))
    both = side(made, "baseline", counts=pl.concat([made.tables["counts"], doubled]))
    rows = {x.event: x for x in counts.system_counts(both, side(made, "subject"))}
    assert rows["net:net_dev_queue"].baseline == pytest.approx(450 / 80)
    assert rows["net:net_dev_queue"].subject == pytest.approx(1010 / 80)


def test_a_rare_function_is_background_and_not_added() -> None:
    made = make(plain=4, traced=2, count=50)
    rare = with_rare(made, every=20)
    found = compare(rare.run, rare.tables, rare.kallsyms)
    (function,) = [f for f in found.functions if f.symbol == "fib_rare"]
    assert function.state == "background" and 0.01 < function.subject < 0.1


def test_a_function_of_one_trial_alone_is_not_added() -> None:
    made = make(plain=4, traced=4, count=20)
    rare = with_rare(made, every=1, trials=1)
    found = compare(rare.run, rare.tables, rare.kallsyms)
    (function,) = [f for f in found.functions if f.symbol == "fib_rare"]
    assert function.subject == pytest.approx(0.25) and function.subject_trials == 1
    assert function.state == "changed"


def with_rare(made: Synthetic, *, every: int, trials: int = 99) -> Synthetic:
    """``made`` with one more frame in the send stack of every n-th subject packet of the first trials."""
    frames, stacks, events = (made.tables[name] for name in ("frames", "stacks", "events"))
    frame, stack = frames.height, stacks.height
    sent = events.filter(
        pl.col("arm") == "subject",
        pl.col("collector") == "perf-record",
        pl.col("dev") == "eth0",
        pl.col("event") == "net:net_dev_queue",
        pl.col("key").is_not_null(),
        pl.col("role") == "container",
    ).sort("ts")
    first = sorted(sent["trial"].unique())[:trials]
    chosen = sent.filter(pl.col("trial").is_in(first)).gather_every(every)["ts"]
    more = {"frame": [frame], "symbol": ["fib_rare"], "module": [""], "raw": ["fib_rare.isra.0"]}
    rare = pl.col("ts").is_in(chosen.implode()) & (pl.col("collector") == "perf-record")
    tables = {
        **made.tables,
        "frames": pl.concat([frames, pl.DataFrame(more, schema=frames.schema)]),
        "stacks": pl.concat(
            [stacks, pl.DataFrame({"stack": [stack], "frames": [[frame]]}, schema=stacks.schema)]
        ),
        "events": events.with_columns(stack=pl.when(rare).then(stack).otherwise(pl.col("stack"))),
    }
    return replace(made, tables=tables)
