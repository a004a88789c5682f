"""The ``name=value`` text behind an event, as perf and ftrace print it, and the names of events.

Scope: the few fields that ``events`` has columns for. Device names cannot hold white space, ``/`` or
``:``, so a field ends at the next blank; a device named ``len=3`` stays the value of ``dev``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeAlias

from swarmscope.trace.formats.base import Source

_FIELD = re.compile(rb"(?:^|(?<=\s))(dev|skbaddr|len|protocol)=(\S+)")
_SKB = re.compile(rb"(?:0x)?([0-9a-f]{1,16})$")
_NUMBER = re.compile(rb"0x[0-9a-f]{1,7}$|0$|[1-9]\d{0,8}$")
HASHED_BELOW = 1 << 32
"""``%p`` hashed by the kernel has 32 significant bits; kernel addresses of 64-bit machines never do."""

Fields: TypeAlias = "tuple[str | None, int | None, int | None, int | None]"
"""dev, skb, len, proto"""

_KNOWN = {
    "net": (
        "napi_gro_frags_entry napi_gro_frags_exit napi_gro_receive_entry napi_gro_receive_exit net_dev_queue "
        "net_dev_start_xmit net_dev_xmit net_dev_xmit_timeout netif_receive_skb netif_receive_skb_entry "
        "netif_receive_skb_exit netif_receive_skb_list_entry netif_receive_skb_list_exit netif_rx "
        "netif_rx_entry netif_rx_exit netif_rx_ni_entry netif_rx_ni_exit"
    ),
    "skb": "consume_skb kfree_skb skb_copy_datagram_iovec",
    "napi": "napi_poll dql_stall_detected",
    "sock": (
        "inet_sk_error_report inet_sock_set_state sk_data_ready sock_exceed_buf_limit sock_rcvqueue_full "
        "sock_recv_length sock_send_length"
    ),
    "tcp": (
        "tcp_bad_csum tcp_cong_state_set tcp_destroy_sock tcp_probe tcp_rcv_space_adjust tcp_receive_reset "
        "tcp_retransmit_skb tcp_retransmit_synack tcp_send_reset"
    ),
    "udp": "udp_fail_queue_rcv_skb",
    "qdisc": "qdisc_create qdisc_dequeue qdisc_destroy qdisc_enqueue qdisc_reset",
    "icmp": "icmp_send",
    "bridge": "br_fdb_add br_fdb_external_learn_add br_fdb_update br_mdb_full fdb_delete",
    "neigh": (
        "neigh_cleanup_and_release neigh_create neigh_event_send_dead neigh_event_send_done "
        "neigh_timer_handler neigh_update neigh_update_done"
    ),
    "fib": "fib_table_lookup",
}
KNOWN_EVENTS = {name: f"{system}:{name}" for system, names in _KNOWN.items() for name in names.split()}


def full_name(name: str, source: Source) -> str:
    """``net_dev_queue`` -> ``net:net_dev_queue``: the host's own list first, then the known ones."""
    return name if ":" in name else source.tracepoints.get(name) or KNOWN_EVENTS.get(name, name)


def parse(text: bytes) -> tuple[Fields, bool]:
    """The fields of an event's text, and whether its skb address was hashed (then it is None)."""
    dev: str | None = None
    skb: int | None = None
    length: int | None = None
    proto: int | None = None
    hashed = False
    for name, value in _FIELD.findall(text):
        if name == b"dev":
            dev = value.decode("utf-8", "replace")
        elif name == b"skbaddr":
            if match := _SKB.match(value):
                address = int(match.group(1), 16)
                hashed = 0 < address < HASHED_BELOW
                skb = None if hashed else address
        elif _NUMBER.match(value):
            if name == b"len":
                length = int(value, 0)
            else:
                proto = int(value, 0)
    return (dev, skb, length, proto), hashed


def by_name(tracepoints: Iterable[str]) -> dict[str, str]:
    """A host's ``system:name`` list as name -> ``system:name``; names that two systems share are left out."""
    found: dict[str, str] = {}
    twice: set[str] = set()
    for full in tracepoints:
        name = str(full).partition(":")[2]
        if found.setdefault(name, str(full)) != full:
            twice.add(name)
    return {name: full for name, full in found.items() if name and name not in twice}
