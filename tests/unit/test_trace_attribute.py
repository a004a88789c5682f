"""Joining events to packets: the same hit, the enclosing transmit, reuse of addresses, tolerances."""

from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmscope.trace import attribute, schema

US = 1000
QUEUE, START, XMIT, RECEIVE = (
    "net:net_dev_queue",
    "net:net_dev_start_xmit",
    "net:net_dev_xmit",
    "net:netif_receive_skb",
)
RX, ENTRY, CONSUME, COPY = (
    "net:netif_rx",
    "net:netif_rx_entry",
    "skb:consume_skb",
    "skb:skb_copy_datagram_iovec",
)
SKB = 0xFFFF888000001000


def hops(
    *rows: tuple[int, str, str, int, str], kernel: str = "k", cpu: int = 0, skb: int = SKB
) -> pl.DataFrame:
    """(us, event, dev, netns, key)"""
    return schema.conform(
        "hops",
        pl.DataFrame(
            [
                {
                    "ts": us * US,
                    "event": event,
                    "dev": dev,
                    "netns": netns,
                    "ifindex": netns + 1,
                    "key": key,
                    "host": f"h{netns}",
                    "role": f"r{netns}",
                    "kernel": kernel,
                    "cpu": cpu,
                    "skb": skb,
                }
                for us, event, dev, netns, key in rows
            ]
        ),
    )


def events(*rows: tuple[float, str, str | None], **more: Any) -> pl.DataFrame:
    """(us, event, dev)"""
    base = {"collector": "perf", "kernel": "k", "cpu": 0, "skb": SKB, "host": ""} | more
    return schema.conform(
        "events",
        pl.DataFrame(
            [{"ts": int(us * US), "event": event, "dev": dev, **base} for us, event, dev in rows],
            schema_overrides={"dev": pl.String(), "skb": pl.UInt64()},
        ),
    )


def joined(found: pl.DataFrame) -> list[tuple[int | None, str | None]]:
    return list(found.select("netns", "key").iter_rows())


PATH = hops(
    (100, QUEUE, "eth0", 1, "a"),
    (110, START, "eth0", 1, "a"),
    (120, RX, "veth0", 2, "a"),
    (130, RECEIVE, "veth0", 2, "a"),
    (140, QUEUE, "eth0", 3, "a"),
    (150, START, "eth0", 3, "a"),
    (200, CONSUME, "eth0", 3, "a"),
)


def test_the_same_hit_is_joined_whichever_recorder_stamped_it_first() -> None:
    for shift in (-5, 5):
        found = attribute.attribute(
            events((100 + shift, QUEUE, "eth0"), (120 + shift, RX, "veth0"), (140 + shift, QUEUE, "eth0")),
            PATH,
        )
        assert joined(found) == [(1, "a"), (2, "a"), (3, "a")]
        assert found.select("host", "ifindex", "role").row(1) == ("h2", 3, "r2")


def test_an_event_without_a_namespace_of_its_own_takes_the_hop_before_it() -> None:
    found = attribute.attribute(events((135, "net:something", None), (160, COPY, None)), PATH)
    assert joined(found) == [(2, "a"), (3, "a")]


def test_net_dev_xmit_belongs_to_the_transmit_that_encloses_it_even_after_the_free() -> None:
    # veth0's transmit lasts until after the packet was consumed elsewhere and its address used again
    path = hops(
        (100, START, "veth0", 1, "a"),
        (110, START, "eth0", 2, "a"),
        (150, CONSUME, "eth0", 3, "a"),
        (152, QUEUE, "eth0", 4, "b"),
    )
    found = attribute.attribute(events((112, XMIT, "eth0"), (155, XMIT, "veth0")), path)
    assert joined(found) == [(2, "a"), (1, "a")]
    assert joined(attribute.attribute(events((155, XMIT, "veth0"), cpu=1), path)) == [(None, "b")]


def test_an_entry_looks_ahead_to_its_device() -> None:
    assert joined(attribute.attribute(events((118, ENTRY, "veth0")), PATH)) == [(2, "a")]


def test_no_join_reaches_across_the_end_of_a_packets_life() -> None:
    path = hops((100, RECEIVE, "eth0", 1, "a"), (110, CONSUME, "eth0", 1, "a"), (130, QUEUE, "eth0", 2, "b"))
    found = attribute.attribute(
        events((105, COPY, None), (115, COPY, None), (125, COPY, None), (131, COPY, None)), path
    )
    assert joined(found) == [(1, "a"), (2, "b"), (2, "b"), (2, "b")]
    far = hops((100, RECEIVE, "eth0", 1, "a"), (110, CONSUME, "eth0", 1, "a"), (180, QUEUE, "eth0", 2, "b"))
    assert joined(attribute.attribute(events((130, COPY, None)), far)) == [(None, None)]


def test_a_free_that_only_the_events_saw_cuts_a_life_too() -> None:
    path = hops((100, RECEIVE, "eth0", 1, "a"))
    found = attribute.attribute(events((110, CONSUME, None), (120, COPY, None), (130, QUEUE, "eth0")), path)
    assert joined(found) == [(1, "a"), (None, None), (None, None)]


def test_a_later_free_of_a_used_again_address_is_another_packets() -> None:
    # ftrace stamps the free before bpftrace does, and the next owner of the address is freed soon after
    path = hops((100, RECEIVE, "eth0", 1, "a"), (112, CONSUME, "eth0", 1, "a"))
    found = attribute.attribute(events((110, CONSUME, None), (140, CONSUME, None)), path)
    assert joined(found) == [(1, "a"), (None, None)]


def test_a_free_just_before_the_first_hop_is_of_the_previous_owner() -> None:
    path = hops((130, QUEUE, "eth0", 2, "b"))
    found = attribute.attribute(events((125, CONSUME, None), (126, COPY, None)), path)
    assert joined(found) == [(None, None), (2, "b")]


def test_tolerances_500_us_after_the_last_hop_and_20_us_before_the_first() -> None:
    path = hops((1000, RECEIVE, "eth0", 1, "a"))
    times = (979, 981, 1499, 1501)
    assert [j[1] for j in joined(attribute.attribute(events(*[(t, COPY, None) for t in times]), path))] == [
        None,
        "a",
        "a",
        None,
    ]


def test_between_two_hops_of_one_life_a_slow_machine_may_take_longer() -> None:
    path = hops((1000, RECEIVE, "eth0", 1, "a"), (4000, QUEUE, "eth1", 2, "a"))
    assert joined(attribute.attribute(events((2500, COPY, None)), path)) == [(1, "a")]


def test_an_event_of_a_device_no_hop_knows_keeps_its_packet_but_gets_no_namespace() -> None:
    found = attribute.attribute(events((135, ENTRY, "other0")), PATH)
    assert joined(found) == [(None, "a")] and found.item(0, "host") == ""


def test_other_addresses_kernels_and_packets_without_a_key_stay_unmatched() -> None:
    assert joined(attribute.attribute(events((100, QUEUE, "eth0"), skb=SKB + 256), PATH)) == [(None, None)]
    assert joined(attribute.attribute(events((100, QUEUE, "eth0"), kernel="other"), PATH)) == [(None, None)]
    assert joined(attribute.attribute(events((100, QUEUE, "eth0"), skb=None), PATH)) == [(None, None)]
    nameless = PATH.with_columns(pl.lit("").alias("key"))
    assert joined(attribute.attribute(events((100, QUEUE, "eth0")), nameless)) == [(None, None)]


def test_collectors_do_not_cut_each_others_lives() -> None:
    path = hops((100, RECEIVE, "eth0", 1, "a"), (114, CONSUME, "eth0", 1, "a"))
    both = pl.concat([events((110, CONSUME, None)), events((112, CONSUME, None), collector="ftrace")])
    assert joined(attribute.attribute(both, path)) == [(1, "a"), (1, "a")]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 900), st.sampled_from([QUEUE, RX, XMIT, ENTRY, CONSUME, COPY])),
        min_size=1,
        max_size=30,
    )
)
def test_rows_and_their_order_are_kept_and_no_life_is_crossed(rows: list[tuple[int, str]]) -> None:
    path = hops(
        (100, QUEUE, "eth0", 1, "a"),
        (200, CONSUME, "eth0", 1, "a"),
        (600, QUEUE, "eth0", 2, "b"),
        (700, CONSUME, "eth0", 2, "b"),
    )
    given_events = events(*[(us, event, None if event in (CONSUME, COPY) else "eth0") for us, event in rows])
    found = attribute.attribute(given_events, path)
    assert found.select("ts", "event").equals(given_events.select("ts", "event"))
    for ts, event, key in found.select("ts", "event", "key").iter_rows():
        if event == COPY and key is not None:
            assert key == ("a" if ts <= 200 * US else "b")


def test_an_event_is_of_the_trial_that_holds_it_and_of_none_outside() -> None:
    trials = schema.conform(
        "trials",
        pl.DataFrame(
            {
                "trial": [0, 1, 2],
                "arm": ["baseline", "subject", "subject"],
                "start": [100, 300, None],
                "end": [200, 400, None],
            }
        ),
    )
    frame = events(*[(t / US, COPY, None) for t in (350, 100, 99, 200, 201, 401)])
    found = attribute.assign_trials(frame, trials)
    assert found["trial"].to_list() == [1, 0, None, 0, None, None]
    assert found["arm"].to_list() == ["subject", "baseline", "", "baseline", "", ""]


def test_a_packet_that_was_not_followed_takes_nothing_from_one_that_was() -> None:
    # "a" ends unseen (TCP frees without an event) and its address goes to a packet without hops, then to "b"
    path = hops((100, QUEUE, "eth0", 1, "a"), (110, START, "eth0", 1, "a"), (120, RECEIVE, "eth1", 2, "a"))
    path = pl.concat([path, hops((175, QUEUE, "eth0", 1, "b"))])
    mine = (
        (100, QUEUE, "eth0"),
        (110, START, "eth0"),
        (115, XMIT, "eth0"),
        (120, RECEIVE, "eth1"),
        (125, COPY, None),
    )
    strangers = ((140, QUEUE, "eth0"), (145, START, "eth0"), (150, XMIT, "eth0"), (155, ENTRY, "eth1"))
    rest = ((160, RECEIVE, "eth1"), (165, COPY, None))
    found = attribute.attribute(events(*mine, *strangers, *rest, (175, QUEUE, "eth0")), path)
    assert [key for _, key in joined(found)] == ["a"] * 5 + [None] * 6 + ["b"]


def test_one_hop_is_one_event_the_nearest() -> None:
    path = hops((100, QUEUE, "eth0", 1, "a"))
    found = attribute.attribute(events((97, QUEUE, "eth0"), (130, QUEUE, "eth0")), path)
    assert joined(found) == [(1, "a"), (None, None)]
