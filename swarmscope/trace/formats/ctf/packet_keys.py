"""The packet behind each of LTTng's network events, as far as LTTng recorded its headers.

``net_dev_queue``, ``net_if_receive_skb`` and ``net_if_rx`` hold the IP header and the beginning of the
transport's as fields of variants; the key is made from them in the form of ``trace.packet_key``. What is not
there:

* nothing behind a UDP header: a packet to the VXLAN port is marked ``outer`` without a key and without a VNI;
* no network namespace and no interface number: ``netns`` and ``ifindex`` are null;
* no transport header of a packet that the kernel has not looked into yet. lttng-modules takes the header for
  set where its offset is above the network header's, and "not set" is the highest offset there is: what it
  then copies are bytes from elsewhere. That is so for ICMP from a driver (GRO looks into TCP and UDP only),
  and for all that comes from a driver without GRO.

So an ICMP header counts where a packet is sent, and where one is received if the same trace has that packet
(addresses and IP id, with one ICMP header only) sent as well; a UDP header counts if its length fits the IP
header's; a TCP header if its own length can be, which lets some strange bytes pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from swarmscope.trace import schema
from swarmscope.trace.formats import ctf
from swarmscope.trace.formats.base import LossLog, Source
from swarmscope.trace.formats.ctf.columns import Columns, Slot
from swarmscope.trace.formats.ctf.program import Asked, Wanted
from swarmscope.trace.formats.ctf.types import EventClass, shown

_IP = "event.fields.network_header.ipv4"
_TRANSPORT = f"{_IP}.transport_header"
_PATHS = {
    "skb": "event.fields.skbaddr",
    "len": "event.fields.len",
    "dev": "event.fields.name",
    "version": f"{_IP}.version",
    "ihl": f"{_IP}.ihl",
    "total": f"{_IP}.tot_len",
    "id": f"{_IP}.id",
    "fragment": f"{_IP}.frag_off",
    "protocol": f"{_IP}.protocol",
    "source": f"{_IP}.saddr",
    "target": f"{_IP}.daddr",
    "tcp_source": f"{_TRANSPORT}.tcp.source_port",
    "tcp_target": f"{_TRANSPORT}.tcp.dest_port",
    "tcp_seq": f"{_TRANSPORT}.tcp.seq",
    "tcp_words": f"{_TRANSPORT}.tcp.data_offset",
    "udp_source": f"{_TRANSPORT}.udp.source_port",
    "udp_target": f"{_TRANSPORT}.udp.dest_port",
    "udp_len": f"{_TRANSPORT}.udp.len",
    "icmp_type": f"{_TRANSPORT}.icmp.type",
    "icmp_checksum": f"{_TRANSPORT}.icmp.checksum",
    "icmp_rest": f"{_TRANSPORT}.icmp.gateway",
}
SLOTS = tuple(Slot(name, "text" if name == "dev" else "int64") for name in _PATHS)
_ASKED = {
    path: Wanted(number, slot.kind == "text")
    for number, (path, slot) in enumerate(zip(_PATHS.values(), SLOTS, strict=True))
}
_ICMP, _TCP, _UDP = 1, 6, 17


def decode(path: Path, source: Source) -> pl.DataFrame:
    """One row a network event with an IPv4 header, in the columns of ``hops``; an unknown key is empty.

    ``TraceFileError`` where ``path`` holds no trace. Damage is noted by ``ctf.decode_folder`` alone.
    """
    from swarmscope.trace.formats.ctf import reading as ctf_reading

    reading = ctf_reading.reading(path, source, log=LossLog(source), slots=SLOTS, ask=_asked)
    names = [ctf.full_name(event.name) for event in reading.classes]
    frames = [_headers(columns, names) for columns in reading.windows()]
    if not frames:
        return schema.empty("hops")
    frame = pl.concat(frames).sort("ts", maintain_order=True)
    return schema.conform("hops", _keyed(frame, source, err=reading.err))


def _headers(columns: Columns, names: Sequence[str]) -> pl.DataFrame:
    return columns.raw().select(list(columns.shown(names).values())).filter(pl.col("version").is_not_null())


def _asked(event: EventClass) -> Asked:
    names = {shown(name) for name, _ in event.fields.fields} if event.fields else set()
    return _ASKED if "network_header" in names else {}


def _keyed(frame: pl.DataFrame, source: Source, *, err: int) -> pl.DataFrame:
    frame = _with_icmp(frame)
    payload = pl.col("total") - 4 * pl.col("ihl")
    first = (pl.col("version") == 4) & (pl.col("ihl") >= 5) & (pl.col("fragment") & 0x1FFF == 0)
    is_udp = first & (pl.col("protocol") == _UDP) & (pl.col("udp_len") == payload)
    is_tcp = first & (pl.col("protocol") == _TCP) & pl.col("tcp_words").is_between(5, payload // 4)
    is_icmp = first & (pl.col("protocol") == _ICMP)
    outer = is_udp & (pl.col("udp_target") == source.vxlan_port)
    ends = (_address("source"), _address("target"))
    number, sequence = pl.col("icmp_rest") // 65536, pl.col("icmp_rest") % 65536
    icmp = pl.format("icmp:{}>{}:{}:{}:{}", *ends, number, sequence, "icmp_type")
    tcp = pl.format("tcp:{}:{}>{}:{}:{}:{}", ends[0], "tcp_source", ends[1], "tcp_target", "id", "tcp_seq")
    udp = pl.format("udp:{}:{}>{}:{}:{}", ends[0], "udp_source", ends[1], "udp_target", "id")
    key = pl.when(is_icmp).then(icmp).when(is_tcp).then(tcp).when(is_udp & ~outer).then(udp)
    return frame.with_columns(
        pl.col("ts") - source.clock_shift,
        pl.lit(err + (source.boot_error if source.clock_shift else 0)).alias("err"),
        pl.lit("").alias("host"),
        pl.lit(source.kernel).alias("kernel"),
        pl.col("skb").reinterpret(signed=False),
        outer.fill_null(False).alias("outer"),
        key.fill_null("").alias("key"),
        pl.lit("").alias("arm"),
    )


def _with_icmp(frame: pl.DataFrame) -> pl.DataFrame:
    """``frame`` with the ICMP header that a packet was sent with, wherever it is seen."""
    header = [name for name in frame.columns if name.startswith("icmp_")]
    packet = ["source", "target", "id"]
    is_icmp = (pl.col("protocol") == _ICMP) & (pl.col("fragment") & 0x1FFF == 0)
    sent = (
        frame.filter(is_icmp & (pl.col("event") == "net:net_dev_queue") & pl.col("icmp_type").is_not_null())
        .select(*packet, *header)
        .unique()
        .filter(pl.len().over(packet) == 1)
    )
    return frame.drop(header).join(sent, on=packet, how="left", maintain_order="left")


def _address(name: str) -> pl.Expr:
    number = pl.col(name)
    return pl.format("{}.{}.{}.{}", *(number // (1 << shift) % 256 for shift in (24, 16, 8, 0)))
