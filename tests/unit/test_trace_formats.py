"""Each format's decoder against small real recordings whose counts were taken by plain text search."""

import io
import json
import time
from pathlib import Path

import pytest

from swarmscope import formats as artifact_formats
from swarmscope.errors import TraceFileError
from swarmscope.trace import formats
from swarmscope.trace.formats import bpftrace_json

GOLDEN = Path(__file__).parent.parent / "golden"
CASES = sorted(
    path
    for name in formats.FORMATS
    for path in (GOLDEN / name).glob("*")
    if ".expected." not in path.name and path.with_name(f"{path.stem}.expected.json").is_file()
)


def decode(path: Path, **source) -> formats.Decoded:
    with path.open("rb") as file:
        return formats.decode(path.parent.name, file, formats.Source(path.name, kernel="k", **source))


def text(format_name: str, data: bytes, **source) -> formats.Decoded:
    return formats.decode(format_name, io.BytesIO(data), formats.Source("t", kernel="k", **source))


def losses(decoded: formats.Decoded) -> list[list]:
    return [list(row) for row in decoded["losses"].select("what", "count").iter_rows()]


@pytest.mark.parametrize("path", CASES, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_a_real_recording_decodes_to_what_text_search_finds(path: Path) -> None:
    expected = json.loads(path.with_name(f"{path.stem}.expected.json").read_text())
    decoded = decode(path)
    events = decoded["events"]
    assert losses(decoded) == expected["losses"]
    if "events" in expected:
        assert events.height == expected["events"]
    for name, count in expected.get("event_counts", {}).items():
        assert (events["event"] == name).sum() == count, name
    for name, value in expected.get("first", {}).items():
        assert events.item(0, name) == value, name
    if "symbols" in expected:
        assert set(expected["symbols"]) <= set(decoded["frames"]["symbol"]) and expected["symbols"]
    if "counts" in expected:
        assert dict(decoded["counts"].select("event", "count").iter_rows()) == expected["counts"]
    if "hops" in expected:
        assert decoded["hops"].height == expected["hops"]
        for code, count in expected["event_codes"].items():
            assert (decoded["hops"]["event"] == bpftrace_json.EVENT_CODES[int(code)]).sum() == count
    if "pairs" in expected:
        pairs = decoded["histograms"].select(decoded["histograms"].columns[3:9]).unique()
        assert pairs.height == expected["pairs"]
        assert decoded["histograms"]["count"].sum() == expected["count"]
    for name, (count, total) in expected.get("calls", {}).items():
        start, end, arm = name.split(" ")
        where = {"from_event": start, "to_event": end, "arm": arm}
        rows = decoded["histograms"].filter(**where)
        assert (rows["count"].sum(), rows["sum"].unique().to_list()) == (count, [total]), name


def test_a_function_that_never_ran_is_a_row_that_counts_nothing() -> None:
    said = b'{"type": "printf", "data": "swarmscope timed 7 kprobe:a kretprobe:a packet\\n"}\n'
    rows = text("bpftrace-json-histograms", said)["histograms"]
    assert rows.select("from_event", "to_event", "arm", "count", "sum", "per").rows() == [
        ("kprobe:a", "kretprobe:a", "", 0, 0, "packet")
    ]


def test_a_sum_of_other_calls_than_the_histograms_is_no_sum() -> None:
    data = (
        b'{"type": "printf", "data": "swarmscope timed 7 kprobe:a kretprobe:a packet\\n"}\n'
        b'{"type": "stats", "data": {"@called": {"7,1": {"count": 3, "average": 2, "total": 6}}}}\n'
        b'{"type": "hist", "data": {"@calls": {"7,1": [{"min": 2, "max": 3, "count": 2}]}}}\n'
    )
    decoded = text("bpftrace-json-histograms", data)
    assert decoded["histograms"].select("arm", "count", "sum").rows() == [("subject", 2, None)]
    assert losses(decoded) == [["damaged", 1]]


def test_a_histogram_of_a_function_nobody_named_is_damage() -> None:
    data = b'{"type": "hist", "data": {"@calls": {"7,1": [{"min": 2, "max": 3, "count": 2}]}}}\n'
    decoded = text("bpftrace-json-histograms", data)
    assert decoded["histograms"].is_empty() and losses(decoded) == [["damaged", 1]]


def test_a_comm_with_blanks_colons_and_brackets_is_one_comm() -> None:
    path = GOLDEN / "perf-script" / "odd-comm-user-frames.txt"
    assert decode(path)["events"]["comm"].unique().to_list() == ["pi ng: [3] -x"]
    path = GOLDEN / "ftrace-text" / "odd-comm-hashed.txt"
    assert "pi ng: [3] -x" in decode(path)["events"]["comm"].to_list()


def test_a_comm_that_imitates_a_header_does_not_move_the_fields() -> None:
    event = b"  22/33  [003]     7.000000001: net:netif_rx: dev=e0 skbaddr=0xffff888000000001 len=9\n\n"
    row = text("perf-script", b"a 1/1 [1] 1: x" + event)["events"].row(0, named=True)
    assert (row["comm"], row["pid"], row["cpu"], row["ts"]) == ("a 1/1 [1] 1: x", 33, 3, 7_000_000_001)


def test_stacks_run_from_the_outermost_caller_to_the_tracepoint() -> None:
    decoded = decode(GOLDEN / "perf-script" / "odd-comm-user-frames.txt")
    symbol = decoded["frames"]["symbol"]
    stack = [symbol[f] for f in decoded["stacks"].item(0, "frames")]
    assert stack[:3] == ["[unknown]", "__libc_sendto", "entry_SYSCALL_64_after_hwframe"]
    assert stack[-1] == "__traceiter_net_dev_queue"
    assert decoded["frames"]["module"][decoded["stacks"].item(0, "frames")[1]] == "[user]"


def test_what_lies_beyond_a_frame_of_the_program_is_no_kernel_frame_whatever_its_address() -> None:
    head = b"ping 1/1 [000] 7.000000001: net:netif_rx: dev=e0 skbaddr=0xffff888000000001 len=9\n"
    frames = (
        b"\tffffffff81eb9559 netif_rx\n\t    7f5c1e1b2a3c __libc_sendto\n\tfffffffffffffffe [unknown]\n\n"
    )
    found = text("perf-script", head + frames)["frames"]
    assert dict(found.select("symbol", "module").iter_rows()) == {
        "netif_rx": "",
        "__libc_sendto": "[user]",
        "[unknown]": "[user]",
    }


def test_ftrace_stack_traces_belong_to_the_event_before_them() -> None:
    decoded = decode(GOLDEN / "ftrace-text" / "stacks-tgid.txt")
    symbol = decoded["frames"]["symbol"]
    assert decoded["events"]["stack"].null_count() == 0
    second = decoded["events"].row(1, named=True)
    names = [symbol[f] for f in decoded["stacks"]["frames"][second["stack"]]]
    assert second["dev"] == "vxlan0" and "br_forward_finish" in names
    assert names[-1] == "trace_event_raw_event_net_dev_start_xmit"
    assert (
        "__netif_receive_skb_core" in names
        and "__netif_receive_skb_core.constprop.0" in decoded["frames"]["raw"]
    )


def test_ftrace_stamps_say_that_they_are_microseconds() -> None:
    events = decode(GOLDEN / "ftrace-text" / "overlay.txt")["events"]
    assert (events["err"] >= 1000).all() and (events["ts"] % 1000 == 0).all()


def test_hashed_addresses_become_null_and_are_counted_raw_ones_stay() -> None:
    assert decode(GOLDEN / "ftrace-text" / "odd-comm-hashed.txt")["events"]["skb"].null_count() == 24
    raw = decode(GOLDEN / "ftrace-text" / "overrun.txt")["events"]["skb"]
    assert raw.null_count() == 0 and (raw >= 1 << 63).all()


def test_the_hosts_own_list_names_an_ftrace_event_before_the_known_ones() -> None:
    line = (
        b"# tracer: nop\n ping-1 [000] b....  1.000001: net_dev_queue: dev=e len=1\n"
        b" ping-1 [000] b....  1.000002: odd_one: x\n"
    )
    named = text("ftrace-text", line, tracepoints={"net_dev_queue": "mine:net_dev_queue"})["events"]["event"]
    assert named.to_list() == ["mine:net_dev_queue", "odd_one"]
    assert text("ftrace-text", line)["events"]["event"].to_list() == ["net:net_dev_queue", "odd_one"]


def test_a_boottime_stamp_moves_by_boot_less_mono_and_takes_its_error() -> None:
    path = GOLDEN / "bpftrace-json-hops" / "overlay.json"
    plain = decode(path)["hops"]
    moved = decode(path, clock="boottime", boot_offset=5_000_000_000, boot_error=300)["hops"]
    assert (plain["ts"] - moved["ts"] == 5_000_000_000).all() and (moved["err"] == 300).all()
    assert (decode(path, clock="monotonic", boot_offset=5_000_000_000)["hops"]["ts"] == plain["ts"]).all()


def test_events_on_the_boot_clock_move_the_same_way() -> None:
    path = GOLDEN / "ftrace-text" / "overlay.txt"
    moved = decode(path, clock="boottime", boot_offset=5_000_000_000, boot_error=300)["events"]
    assert (decode(path)["events"]["ts"] - moved["ts"] == 5_000_000_000).all()
    assert (moved["err"] == 1300).all()


def test_a_stack_cut_between_two_lines_is_dropped_and_its_event_kept() -> None:
    data = (GOLDEN / "perf-script" / "overlay.txt").read_bytes()
    first, second = data.split(b"\n\n")[:2]
    cut = first + b"\n\n" + b"\n".join(second.split(b"\n")[:4]) + b"\n"
    decoded = text("perf-script", cut)
    assert decoded["events"]["stack"].to_list() == [0, None]
    assert decoded["losses"]["detail"].to_list() == [f"t: byte {len(cut)}: the file ends within a call stack"]


def test_hops_know_inner_and_outer_pass_of_an_encapsulated_packet() -> None:
    hops = decode(GOLDEN / "bpftrace-json-hops" / "overlay.json")["hops"]
    outer = hops.filter(hops["outer"])
    assert (
        outer.height > 10
        and (outer["vni"] == 4097).all()
        and outer["key"].str.starts_with("icmp:10.88.201.").all()
    )
    assert set(outer["dev"]) == {"eth0", "port1", "port2"}


def test_the_byte_order_of_the_host_decides_how_words_are_read() -> None:
    path = GOLDEN / "bpftrace-json-hops" / "overlay.json"
    assert (decode(path, byteorder="big")["hops"]["key"] == "").all()


def test_a_device_named_like_a_field_stays_a_device() -> None:
    line = b"p  1/1  [000]  1.000000001: net:netif_rx: dev=len=3 skbaddr=0xffff888000000001 len=9\n\n"
    row = text("perf-script", line)["events"].row(0, named=True)
    assert (row["dev"], row["len"]) == ("len=3", 9)


def test_an_event_without_call_chains_needs_no_empty_line() -> None:
    line = (
        b"            ping  1/1  [000]  1.00000000%d: net:netif_rx: dev=e0 skbaddr=0xffff888000000001 len=9\n"
    )
    decoded = text("perf-script", line % 1 + line % 2)
    assert decoded["events"]["ts"].to_list() == [1_000_000_001, 1_000_000_002]
    assert decoded["losses"].is_empty()


@pytest.mark.parametrize("name", sorted(formats.FORMATS))
def test_a_file_of_another_format_is_one_error_that_names_file_byte_and_expectation(name: str) -> None:
    with pytest.raises(TraceFileError, match=r"t: byte \d+: expected .*, found '\\x7fELF") as caught:
        text(name, b"\x7fELF\x02\x01\x01 this is no trace\n" * 3)
    assert caught.value.hint


def test_an_unknown_format_is_refused_by_name() -> None:
    with pytest.raises(TraceFileError, match="unknown format 'systemtap'"):
        text("systemtap", b"")


def test_zero_losses_are_kept_as_rows() -> None:
    assert losses(text("losses-json", b'{"overrun": 0, "dropped": 3}')) == [["overrun", 0], ["dropped", 3]]
    assert losses(text("losses-json", b'{"overrun": -1}'))[0][0] == "damaged"


def test_not_counted_is_null_and_never_zero() -> None:
    decoded = text(
        "perf-stat-csv", b"<not counted>,,net:netif_rx,0,0.00,,\n5,,net:net_dev_queue,10,50.00,,\n"
    )
    assert decoded["counts"].select("count", "running").rows() == [(None, 0.0), (5, 0.5)]
    assert losses(decoded) == [["not counted", 1]]


def test_a_perf_text_of_20_mb_decodes_in_seconds() -> None:
    one = (GOLDEN / "perf-script" / "overlay.txt").read_bytes()
    start = time.perf_counter()
    decoded = text("perf-script", one * (20_000_000 // len(one)))
    assert time.perf_counter() - start < 10 and decoded["events"].height > 10_000


def test_every_format_that_a_collector_may_name_has_a_decoder_and_no_other_has() -> None:
    recordings = {name for name, one in artifact_formats.FORMATS.items() if not one.aside}
    assert recordings == {*formats.FORMATS, *formats.FOLDERS}
