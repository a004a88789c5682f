"""The perf-record collector on this machine: what its scripts leave beside perf.data, and that it is decoded.

The scripts run here without an agent: record until the gate's fifo says enough, then what comes after.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from perf_data_oracle import decoded_events, need_perf, printed, script

from swarmscope import collectors
from swarmscope.places import shipped
from swarmscope.trace.formats import Decoded, Source, decode_path
from swarmscope.trace.reading import beside

COLLECTOR = collectors.load(shipped("collectors") / "perf-record")


def scripts(folder: Path, **options: Any) -> dict[str, Any]:
    """The collector's scripts in a folder, rendered for this machine; the request they belong to."""
    root = Path("/sys/kernel/tracing/events")
    context = {
        "recorder": "perf-record",
        "tools": {"perf": {"path": shutil.which("perf") or "perf", "version": ""}},
        "tracepoints": [f"{path.parent.name}:{path.name}" for path in sorted(root.glob("[ns][ek][tb]/*/"))],
    }
    request = collectors.render(COLLECTOR, options=options, context=context)
    for name, text in request["files"].items():
        (folder / name).write_text(text)
    return request


def recorded(folder: Path, **options: Any) -> Decoded:
    """A few pings, recorded and decoded as ``collect`` does it."""
    need_perf()
    request = scripts(folder, **options)
    for name in request["fifos"]:
        os.mkfifo(folder / name)
    gate, ack = (os.open(folder / name, os.O_RDWR) for name in ("ctl", "ack"))
    try:
        with (folder / "stderr.log").open("wb") as errors:
            recorder = subprocess.Popen(request["record"], cwd=folder, stderr=errors, start_new_session=True)
        until = time.monotonic() + 30
        while "Events disabled" not in (folder / "stderr.log").read_text() and time.monotonic() < until:
            time.sleep(0.05)
        for word in (b"enable\n", b"disable\n"):
            os.write(gate, word)
            os.read(ack, 16)
            if word == b"enable\n":
                subprocess.run(["ping", "-q", "-c", "3", "-i", "0.01", "127.0.0.1"], check=True, stdout=-3)
        os.killpg(recorder.pid, 2)
        recorder.wait(30)
    finally:
        os.close(gate)
        os.close(ack)
    subprocess.run(request["after"], cwd=folder, check=True)
    path = folder / "perf.data"
    return decode_path("perf-data", path, Source("t", kernel="k", kallsyms=beside(path)))


def test_by_frame_pointers_no_perf_script_runs_and_names_come_from_the_list_beside_it(tmp_path: Path) -> None:
    decoded = recorded(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} >= {"perf.data", "kallsyms", "losses.json"}
    assert not (tmp_path / "perf.script.txt").exists()
    assert json.loads((tmp_path / "losses.json").read_text()) == {"lost_chunks": 0}
    assert decoded["losses"].is_empty()
    assert decoded["events"]["comm"].to_list().count("ping") > 10
    names = {row[3] for row in decoded["frames"].iter_rows()}
    assert {"__dev_queue_xmit", "ip_output"} <= names
    assert "[unknown]" not in names
    assert decoded_events(decoded) == printed(script(tmp_path / "perf.data"))


def test_the_list_has_the_addresses_of_functions_only(tmp_path: Path) -> None:
    recorded(tmp_path)
    lines = [line.split() for line in (tmp_path / "kallsyms").read_text().splitlines()]
    assert {kind for _, kind, *_ in lines} <= set("tTwWvV")
    assert len(lines) > 10_000 and all(int(address, 16) for address, *_ in lines)


def test_by_dwarf_the_text_with_the_programs_frames_is_there_too(tmp_path: Path) -> None:
    recorded(tmp_path, call_graph="dwarf")
    assert {path.name for path in tmp_path.iterdir()} >= {"perf.data", "kallsyms", "perf.script.txt"}
    assert json.loads((tmp_path / "losses.json").read_text()) == {
        "lost_chunks": 0,
        "lost_samples": 0,
        "unreadable": 0,
    }
    text = (tmp_path / "perf.script.txt").read_text()
    assert "net:net_dev_queue" in text and "sendto" in text


def test_a_text_that_perf_could_not_make_leaves_the_kernels_frames(tmp_path: Path) -> None:
    need_perf()
    request = scripts(tmp_path, call_graph="dwarf")
    (tmp_path / "perf.data").write_bytes(b"PERFILE2")
    (tmp_path / "stderr.log").write_text("Processed 9 events and lost 2 chunks!\n")
    assert subprocess.run(request["after"], cwd=tmp_path, check=False).returncode == 1
    assert not (tmp_path / "perf.script.txt").exists()
    assert json.loads((tmp_path / "losses.json").read_text()) == {
        "lost_chunks": 2,
        "lost_samples": 0,
        "unreadable": 1,
    }


def test_perf_data_is_decoded_only_where_no_text_holds_the_same() -> None:
    outputs = {output["file"]: output for output in COLLECTOR.outputs}
    assert outputs["perf.data"]["copy_of"] == "perf.script.txt"
    assert not outputs["perf.data"]["optional"] and outputs["perf.script.txt"]["optional"]
