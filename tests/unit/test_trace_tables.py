"""The whole way from a recorded run to its tables: two hosts on one kernel, three pings in each arm."""

import json
import re
import shutil
from pathlib import Path

import duckdb
import pandas
import polars as pl
import pytest

from swarmscope import store
from swarmscope.errors import UsageError
from swarmscope.trace import partitions, schema, spool, tables

GOLDEN = Path(__file__).parent.parent / "golden" / "run-overlay"


@pytest.fixture
def run(tmp_path: Path) -> store.Run:
    shutil.copytree(GOLDEN, tmp_path / "run")
    return store.Run(tmp_path / "run")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pl.DataFrame]:
    path = tmp_path_factory.mktemp("built") / "run"
    shutil.copytree(GOLDEN, path)
    return built_of(store.Run(path))


def built_of(run: store.Run) -> dict[str, pl.DataFrame]:
    rows = tables.build(run)
    built = tables.load(run)
    assert rows == {name: frame.height for name, frame in built.items()}
    return built


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def path_of(hops: pl.DataFrame) -> list[str]:
    labels: list[str] = []
    for host, label in hops.sort("ts").select("host", "label").iter_rows():
        step = f"{host} {label}".strip()
        if not labels or labels[-1] != step:
            labels.append(step)
    return labels


def first_request(built: dict[str, pl.DataFrame], trial: int) -> str:
    hops = built["hops"].filter(pl.col("trial") == trial, pl.col("key").str.ends_with(":1:8"))
    return str(hops.item(0, "key"))


def test_one_ping_through_the_overlay_gives_the_ordered_path_with_roles(
    built: dict[str, pl.DataFrame],
) -> None:
    hops = built["hops"].filter(pl.col("key") == first_request(built, 3))
    assert path_of(hops) == [
        "n1 container eth0",
        "n1 veth",
        "n1 vxlan (VNI 4097)",
        "n1 host eth0",
        "wire",
        "n2 host eth0",
        "n2 vxlan (VNI 4097)",
        "n2 veth",
        "n2 container eth0",
    ]
    assert set(hops["arm"]) == {"subject"} and set(hops["vni"]) == {4097}
    outer = hops.filter(pl.col("outer"))
    assert set(outer["role"]) == {"nic", "wire"}


def test_one_ping_between_the_hosts_gives_the_short_path(built: dict[str, pl.DataFrame]) -> None:
    hops = built["hops"].filter(pl.col("key") == first_request(built, 2))
    assert path_of(hops) == ["n1 host eth0", "wire", "n2 host eth0"]
    assert set(hops["arm"]) == {"baseline"} and not hops["outer"].any()


def test_every_packet_of_a_traced_trial_has_its_hops(built: dict[str, pl.DataFrame]) -> None:
    for trial in (2, 3):
        assert built["hops"].filter(pl.col("trial") == trial)["key"].n_unique() == 6


def test_events_per_packet_are_equal_between_perf_and_ftrace_and_the_hops(
    built: dict[str, pl.DataFrame],
) -> None:
    events = built["events"].filter(pl.col("key").is_not_null())
    common = [
        *("net:net_dev_queue", "net:net_dev_start_xmit", "net:net_dev_xmit", "net:netif_receive_skb"),
        *("net:netif_rx", "net:napi_gro_receive_entry", "skb:consume_skb", "skb:kfree_skb"),
    ]
    by = ["key", "event", "netns", "ifindex"]

    def counts(frame: pl.DataFrame) -> set[tuple]:
        return set(frame.filter(pl.col("event").is_in(common)).group_by(by).len().rows())

    perf = counts(events.filter(pl.col("collector") == "perf-record"))
    assert perf == counts(events.filter(pl.col("collector") == "ftrace-events")) and len(perf) > 200
    in_trials = built["hops"].filter(pl.col("trial").is_in([2, 3]))
    assert {row for row in perf if row[1] != "net:net_dev_xmit"} == counts(in_trials)


def test_stacks_of_the_packets_show_the_functions_the_overlay_adds(built: dict[str, pl.DataFrame]) -> None:
    # netif_rx of a host's NIC runs in the transmit of the wire's bridge port: its stack is the wire's.
    def functions(arm: str) -> set[str]:
        events = built["events"].filter(
            pl.col("arm") == arm,
            pl.col("key").is_not_null(),
            pl.col("role") != "wire",
            pl.col("stack").is_not_null(),
            ~(pl.col("event").str.starts_with("net:netif_rx") & (pl.col("role") == "nic")),
        )
        frames = built["stacks"].filter(pl.col("stack").is_in(events["stack"].implode()))["frames"].explode()
        return set(built["frames"].filter(pl.col("frame").is_in(frames.implode()))["symbol"])

    added = functions("subject") - functions("baseline")
    assert {"vxlan_xmit", "br_forward_finish", "br_handle_frame", "gro_cell_poll"} <= added
    assert "ip_output" in functions("baseline")
    assert built["frames"].filter(pl.col("symbol") == "vxlan_xmit")["module"].unique().to_list() == ["vxlan"]


def test_background_events_keep_null(built: dict[str, pl.DataFrame]) -> None:
    background = built["events"].filter(pl.col("key").is_null())
    assert background.height > 20 and background["netns"].null_count() == background.height


def test_counts_latencies_trials_and_losses_are_there(built: dict[str, pl.DataFrame]) -> None:
    assert built["latencies"].height == 12 and (built["latencies"]["rtt"] > 10_000).all()
    assert set(built["counts"]["arm"]) == {"subject"}
    assert built["trials"].select("trial", "arm", "kind").rows() == [
        (0, "baseline", "plain"),
        (1, "subject", "plain"),
        (2, "baseline", "traced"),
        (3, "subject", "traced"),
    ]
    assert built["losses"]["count"].sum() == 0 and built["losses"].height == 5
    assert built["histograms"]["count"].sum() > 0


def test_the_clock_of_a_host_on_the_same_kernel_is_measured_and_holds_the_truth(run: store.Run) -> None:
    tables.build(run)
    certificate = json.loads((run.tables / partitions.CLOCKS).read_text())["hosts"]["n2"]
    assert certificate["status"] == "aligned" and certificate["same_kernel"]
    for burst in certificate["bursts"]:
        assert abs(burst["offset_ns"]) <= burst["half_width_ns"] < 100_000


def test_tables_load_as_built_and_building_again_gives_the_same_bytes(run: store.Run) -> None:
    built = built_of(run)
    first = content_of(run.tables)
    loaded = tables.load(run)
    for name in schema.TABLES:
        assert loaded[name].equals(built[name]), name
        assert dict(loaded[name].schema) == dict(schema.TABLES[name])
    tables.build(run)
    assert content_of(run.tables) == first


def test_missing_and_damaged_files_become_losses_and_the_rest_is_decoded(run: store.Run) -> None:
    (run.raw("n1") / "ftrace-events" / "events.txt.zst").unlink()
    broken = run.raw("n1") / "perf-record" / "perf.script.txt.zst"
    broken.write_bytes(b"not packed at all")
    (run.raw("n2") / "topology.json").write_text("{")
    built = built_of(run)
    lost = {(r["what"], r["collector"]) for r in built["losses"].iter_rows(named=True)}
    assert ("missing file", "ftrace-events") in lost and ("unreadable file", "") in lost
    assert any(
        collector == "perf-record" and what in ("damaged", "unreadable file") for what, collector in lost
    )
    assert built["hops"].height > 200 and built["events"].is_empty()


def test_a_free_with_a_junk_device_takes_the_device_the_packet_was_on(run: store.Run) -> None:
    whole = built_of(run)["hops"].filter(pl.col("event").is_in(["skb:consume_skb", "skb:kfree_skb"]))
    path = run.raw("n1") / "skb-path" / "hops.json.zst"
    with store.open_packed(path) as file:
        text = file.read()
    path.unlink()
    # codes 6 and 7 are the frees: what they read as namespace and ifindex is made up
    path.with_suffix("").write_bytes(re.sub(rb"\[([67]), ?\d+, ?\d+,", rb"[\1,17,4711,", text))
    after = built_of(run)["hops"].filter(pl.col("event").is_in(["skb:consume_skb", "skb:kfree_skb"]))
    same = ["ts", "host", "netns", "ifindex", "label", "key"]
    assert whole.height >= 12 and after.select(same).equals(whole.select(same))


def test_a_host_that_was_not_collected_is_named_once(run: store.Run) -> None:
    record = run.read()
    run.write({**record, "missing": ["n2"]})
    shutil.rmtree(run.raw("n2"))
    lost = built_of(run)["losses"].filter(pl.col("host") == "n2")
    assert lost.select("what").rows() == [("missing host",)]


def test_a_recorder_on_another_clock_is_moved_to_the_reference(run: store.Run) -> None:
    whole = built_of(run)["hops"]
    record = run.read()
    shift = 7_000_000_000
    # the recording host becomes n2, whose clock is ahead of the reference by `shift`
    record["recorders"] = {"n2": record["recorders"]["n1"], "n1": []}
    for end in ("start", "end"):
        part = record["clocks"]["hosts"]["n2"][end]
        part["samples"] = [[a, b - shift, c - shift, d] for a, b, c, d in part["samples"]]
    run.write(record)
    for folder in ("perf-record", "ftrace-events", "skb-path", "bpftrace-latency", "perf-stat.subject"):
        shutil.move(run.raw("n1") / folder, run.raw("n2") / folder)
    moved = built_of(run)["hops"]
    assert moved.height == whole.height
    gap = (moved["ts"] - whole["ts"] - shift).abs()
    assert (gap <= moved["err"]).all() and (moved["err"] > 1000).all() and (whole["err"] < 1000).all()


def test_a_host_without_any_clock_is_left_out_and_said_so(run: store.Run) -> None:
    record = run.read()
    record["kernels"] = {"a": {"recorder": "n2", "hosts": ["n2"]}, "b": {"recorder": "n1", "hosts": ["n1"]}}
    record["clocks"]["reference"] = "n2"
    record["clocks"]["hosts"] = {}
    run.write(record)
    built = built_of(run)
    assert built["events"].is_empty() and built["hops"].is_empty()
    assert "no clock" in built["losses"]["what"].to_list()


def test_events_that_were_overwritten_are_counted_once() -> None:
    rows = [
        ("n1", "ftrace", "overrun", 10, ""),
        ("n1", "ftrace", "lost events", 4, "CPU 0, before byte 4096"),
        ("n1", "ftrace", "lost events", 3, "CPU 1, before byte 0"),
        ("n1", "other", "overrun", 5, ""),
        ("n2", "ftrace", "overrun", 0, ""),
        ("n2", "ftrace", "lost events", 2, "CPU 0, before byte 0, at least"),
        ("n3", "perf", "lost events", 6, ""),
    ]
    losses = tables._without_placed(pl.DataFrame(rows, schema=dict(schema.LOSSES), orient="row"))
    kept = [row for row in rows if row[:3] != ("n1", "ftrace", "overrun")]
    overrun = ("n1", "ftrace", "overrun", 3, "10 in all, the others are told where they were lost")
    assert sorted(losses.rows()) == sorted([*kept, overrun])


def test_loading_a_run_without_tables_says_what_to_do(run: store.Run) -> None:
    with pytest.raises(UsageError, match=r"tables/events: no such table") as caught:
        tables.load(run)
    assert "invoke collect" in caught.value.hint


@pytest.mark.parametrize("slab", [50, 400])
def test_a_trace_merged_in_slabs_is_the_trace_merged_at_once(
    run: store.Run, built: dict[str, pl.DataFrame], slab: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "GROUP", 10)
    monkeypatch.setattr(spool, "SLAB", slab)
    pieces = built_of(run)
    assert len(list((run.tables / "events").rglob("*.parquet"))) > 8
    for name in schema.TABLES:
        assert pieces[name].equals(built[name]), name


def test_polars_duckdb_and_pandas_read_the_partitions_as_they_are(run: store.Run) -> None:
    tables.build(run)
    whole = tables.load(run)["events"].group_by(
        pl.col("trial").fill_null(-1), pl.col("host").replace("", "-")
    )
    expected = {(trial, host): count for trial, host, count in whole.len().rows()}
    assert len(expected) > 2
    folder = run.tables / "events"
    keys = ["trial", "host"]
    by_polars = (
        pl.scan_parquet(folder / "**/*.parquet", hive_partitioning=True).group_by(keys).len().collect()
    )
    assert {(trial, host): count for trial, host, count in by_polars.rows()} == expected
    files = f"read_parquet('{folder}/**/*.parquet', hive_partitioning = true)"
    by_duckdb = duckdb.sql(f"select trial, host, count(*) from {files} group by all").fetchall()
    assert {(trial, host): count for trial, host, count in by_duckdb} == expected
    by_pandas = pandas.read_parquet(folder).groupby(keys, observed=True).size()
    assert {(int(trial), host): count for (trial, host), count in by_pandas.items()} == expected
