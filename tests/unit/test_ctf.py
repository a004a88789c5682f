"""Real traces of LTTng: what babeltrace2 prints of them, event by event, is what is read."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest
from babeltrace import needs_babeltrace2, parsed, printed, shown

from swarmscope.errors import TraceFileError
from swarmscope.trace import schema
from swarmscope.trace.formats import ctf
from swarmscope.trace.formats.base import LossLog, Source
from swarmscope.trace.formats.ctf import fields as ctf_fields
from swarmscope.trace.formats.ctf import packet_keys
from swarmscope.trace.formats.ctf import trace as ctf_trace

GOLDEN = Path(__file__).parents[1] / "golden" / "ctf"
OVERLAY = GOLDEN / "overlay"
SAMPLE = Path(__file__).parents[2] / "collectors" / "lttng" / "sample" / "ctf"
SOURCE = Source("lttng/ctf", host="n1", kernel="boot", collector="lttng")


def oracle() -> list[tuple[int, str]]:
    return parsed(gzip.decompress((GOLDEN / "overlay.babeltrace2.txt.gz").read_bytes()).decode())


def test_every_field_of_every_event_is_what_babeltrace2_printed() -> None:
    log = LossLog(SOURCE)
    found = shown(ctf_fields.read(OVERLAY, SOURCE, log))
    assert len(found) == 1546
    assert found == oracle()
    assert log.rows == []


@needs_babeltrace2
@pytest.mark.parametrize("folder", [OVERLAY, SAMPLE])
def test_the_babeltrace2_here_prints_the_same(folder: Path) -> None:
    assert shown(ctf_fields.read(folder, SOURCE, LossLog(SOURCE))) == printed(folder)


NAMES = {
    "net_if_receive_skb": "net:netif_receive_skb",
    "net_if_rx": "net:netif_rx",
    "net_if_rx_entry": "net:netif_rx_entry",
    "net_if_rx_exit": "net:netif_rx_exit",
    "net_napi_gro_receive_entry": "net:napi_gro_receive_entry",
    "net_napi_gro_receive_exit": "net:napi_gro_receive_exit",
    "net_dev_queue": "net:net_dev_queue",
    "net_dev_xmit": "net:net_dev_xmit",
    "skb_consume": "skb:consume_skb",
    "skb_kfree": "skb:kfree_skb",
    "skb_copy_datagram_iovec": "skb:skb_copy_datagram_iovec",
    "napi_poll": "napi:napi_poll",
}


def test_the_columns_of_events_are_those_of_the_text() -> None:
    rows = []
    for stamp, text in oracle():
        name = text.partition(":")[0]
        fields = {
            key: value.strip('"')
            for key, value in re.findall(r'(\w+) = ("[^"]*"|-?\w+)', text.partition(", network_header =")[0])
        }
        skb = int(fields["skbaddr"], 16) if "skbaddr" in fields else None
        length = int(fields["len"]) if skb is not None and "len" in fields else None
        dev = fields.get("name" if skb is not None else "dev_name")
        kind = re.search(r'network_header_type = \( "_(\w+)"', text)
        proto = {"ipv4": 2048, "ipv6": 34525}.get(kind[1]) if kind else None
        if "protocol" in fields and name == "skb_kfree":
            proto = int(fields["protocol"])
        head = (stamp, int(fields["cpu_id"]), int(fields["vtid"]), fields["procname"], NAMES[name])
        rows.append((*head, dev, skb, length, proto))
    table = ctf.decode_folder(OVERLAY, SOURCE)["events"]
    columns = ("ts", "cpu", "pid", "comm", "event", "dev", "skb", "len", "proto")
    key = lambda row: tuple(str(value) for value in row)  # noqa: E731
    assert sorted(table.select(columns).rows(), key=key) == sorted(rows, key=key)


def test_the_table_is_whole_and_in_order() -> None:
    decoded = ctf.decode_folder(OVERLAY, SOURCE)
    table = decoded["events"]
    assert table.schema == schema.empty("events").schema
    assert table["ts"].is_sorted()
    assert set(table["err"]) == {0}
    assert set(table["kernel"]) == {"boot"}
    assert set(table["collector"]) == {"lttng"}
    assert decoded["losses"].is_empty()


def test_a_system_call_is_lttngs_own_event_and_its_len_is_no_packets() -> None:
    table = ctf.decode_folder(SAMPLE, SOURCE)["events"]
    calls = table.filter(table["event"] == "lttng:syscall_entry_sendto")
    assert len(calls) == 2
    assert calls["len"].null_count() == calls["skb"].null_count() == 2
    assert set(calls["comm"]) == {"ping"}


def test_the_clock_of_lttng_is_the_kernels_monotonic_one() -> None:
    (trace,) = ctf_trace.traces(SAMPLE, SOURCE, LossLog(SOURCE))
    assert (trace.name, trace.clock.name, trace.clock.freq) == ("kernel", "monotonic", 1_000_000_000)
    assert trace.clock.description == "Monotonic Clock"
    # 68 minutes after boot, not the time of day: the offset to the epoch is not in the stamps.
    assert ctf.decode_folder(SAMPLE, SOURCE)["events"]["ts"][0] == 4_086_117_605_941
    assert trace.clock.epoch_ns == 1_795_254_021_725_886_399


@pytest.mark.parametrize(
    ("content", "found"),
    [(None, "''"), (b"", "''"), (b'\x1e{"type": "preamble"}', "preamble"), (b"\0" * 5000, r"\\x00")],
)
def test_a_folder_without_a_trace_is_refused(tmp_path: Path, content: bytes | None, found: str) -> None:
    if content is not None:
        (tmp_path / "metadata").write_bytes(content)
    with pytest.raises(TraceFileError, match=f"a folder with a CTF 1.8 trace.*{found}"):
        ctf.decode_folder(tmp_path, SOURCE)
    with pytest.raises(TraceFileError):
        ctf.decode_folder(tmp_path / "none", SOURCE)


def test_packets_have_the_keys_of_their_headers() -> None:
    hops = packet_keys.decode(OVERLAY, SOURCE)
    assert hops.schema == schema.empty("hops").schema
    keys = dict(
        hops.filter(hops["key"] != "").group_by("event", "dev").first().select("dev", "key").iter_rows()
    )
    assert keys["vxlan0"].startswith("icmp:10.88.0.")
    texts = {
        (stamp, int(match[1], 16)): text
        for stamp, text in oracle()
        if (match := re.search(r"skbaddr = 0x(\w+)", text)) and "network_header = { {" in text
    }
    assert len(hops) == len(texts)
    for ts, skb, dev, key, outer in hops.select("ts", "skb", "dev", "key", "outer").iter_rows():
        text = texts[ts, skb]
        assert f'name = "{dev}"' in text
        assert outer == ("dest_port = 4789" in text)
        if outer:
            assert key == ""
        elif "source_port" in text or ("net_dev_queue" in text and "gateway" in text):
            assert key == _key_of(text)


def _key_of(text: str) -> str:
    def field(name: str) -> str:
        match = re.search(rf"\b{name} = (\w+)", text)
        assert match
        return str(int(match[1], 0))

    source, target = (
        ".".join(re.findall(r"\] = (\d+)", part)) for part in re.findall(r"[sd]addr = \[(.*?)\]\s*[,}]", text)
    )
    if "gateway" in text:
        rest = int(field("gateway"))
        return f"icmp:{source}>{target}:{rest >> 16}:{rest & 65535}:{field('type')}"
    ends = f"{source}:{field('source_port')}>{target}:{field('dest_port')}:{field('id')}"
    return f"tcp:{ends}:{field('seq')}" if '"_tcp" : container = 6' in text else f"udp:{ends}"


def test_bytes_from_elsewhere_are_not_taken_for_an_icmp_header() -> None:
    """The kernel had not set the transport header of ICMP from a driver: LTTng copied what was there."""
    hops = packet_keys.decode(OVERLAY, SOURCE)
    received = hops.filter(
        (hops["event"] == "net:netif_receive_skb") & (hops["dev"] == "eth1") & ~hops["outer"]
    )
    assert not any(key.startswith("icmp:") for key in received["key"])
    strange = [text for _, text in oracle() if "gateway = " in text and "net_if_receive_skb" in text]
    assert any("type = 0, code = 0, checksum = 0, gateway = 0 }" in text for text in strange)
    assert any("code = 0" not in text for text in strange)
