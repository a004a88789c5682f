"""What a recorder changed of the kernel's tracing comes back, also when the recorder could not do it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from swarmscope.agent import functions, locks, trace_settings
from swarmscope.agent.places import Places
from swarmscope.agent.sweep import leftovers, restore_settings
from swarmscope.agent.trace_settings import FILE, Settings, read

LIST = [
    "__traceiter_sched_switch",
    "ip_rcv",
    "veth_xmit [veth]",
    "__ftrace_invalid_address___64",
    "br_forward [bridge]",
    "ip_rcv",
]


@pytest.fixture
def tracing(tmp_path: Path) -> Path:
    """A folder with the files of tracefs, written as the kernel shows them when nobody traces."""
    root = tmp_path / "tracing"
    (root / "options").mkdir(parents=True)
    texts = {
        "current_tracer": "nop\n",
        "max_graph_depth": "0\n",
        "trace_clock": "[local] global mono\n",
        "buffer_size_kb": "7 (expanded: 1408)\n",
        "set_ftrace_filter": "#### all functions enabled ####\n",
        "set_graph_function": "br_forward [bridge]\nip_rcv\n",
        "set_ftrace_pid": "no pid\n",
        "options/sleep-time": "1\n",
        functions.AVAILABLE: "".join(f"{line}\n" for line in LIST),
    }
    for name, text in texts.items():
        (root / name).write_text(text)
    return root


def test_settings_are_read_in_the_form_they_are_written_in(tracing: Path) -> None:
    assert read(tracing / "trace_clock") == "local"
    assert read(tracing / "buffer_size_kb") == "1408"
    assert read(tracing / "set_ftrace_filter") == []
    assert read(tracing / "set_ftrace_pid") == []
    assert read(tracing / "set_graph_function") == ["br_forward", "ip_rcv"]


def test_a_command_in_the_filter_is_no_function_of_it(tracing: Path) -> None:
    (tracing / "set_ftrace_filter").write_text("ip_rcv\nip_rcv:traceon:unlimited\n")
    assert read(tracing / "set_ftrace_filter") == ["ip_rcv"]


def test_the_old_value_is_on_disk_before_the_new_one_is_set(tmp_path: Path) -> None:
    settings = Settings(Path("/proc/sys/kernel"), tmp_path / FILE)
    with pytest.raises(PermissionError):
        settings.change("ngroups_max", "5")  # the kernel lets nobody set it
    old = Path("/proc/sys/kernel/ngroups_max").read_text().strip()
    assert json.loads((tmp_path / FILE).read_text())["old"] == {"ngroups_max": old}
    assert settings.restore() == ""


def test_everything_comes_back_the_last_change_first(tracing: Path, tmp_path: Path) -> None:
    settings = Settings(tracing, tmp_path / FILE)
    settings.change("max_graph_depth", "5")
    settings.change("trace_clock", "mono")
    settings.change("max_graph_depth", "3")
    settings.change("options/sleep-time", "1")  # is 1 already
    noted = json.loads((tmp_path / FILE).read_text())["old"]
    assert noted == {"max_graph_depth": "0", "trace_clock": "local"}
    assert settings.restore() == ""
    assert read(tracing / "max_graph_depth") == "0"
    assert (tracing / "trace_clock").read_text().startswith("local")
    assert not (tmp_path / FILE).exists()


def test_what_another_kernel_had_is_not_put_into_this_one(tracing: Path, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(json.dumps({"boot_id": "another", "old": {"max_graph_depth": "7"}}))
    assert Settings(tracing, tmp_path / FILE).restore() == ""
    assert read(tracing / "max_graph_depth") == "0"
    assert not (tmp_path / FILE).exists()


def test_a_note_that_points_out_of_tracefs_is_kept_and_not_followed(tracing: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("as it was")
    noted = {"boot_id": locks.boot_id(), "old": {"../victim": "overwritten"}}
    (tmp_path / FILE).write_text(json.dumps(noted))
    assert "victim" in Settings(tracing, tmp_path / FILE).restore()
    assert victim.read_text() == "as it was"


def test_a_filter_is_put_back_by_the_places_of_its_functions(tracing: Path) -> None:
    trace_settings.write(tracing, tracing / "set_ftrace_filter", ["ip_rcv", "gone", "veth_xmit"])
    assert (tracing / "set_ftrace_filter").read_text().split() == ["2", "6", "3"]
    trace_settings.write(tracing, tracing / "set_graph_function", ["ip_rcv"])
    assert (tracing / "set_graph_function").read_text() == "ip_rcv\n"


def test_a_replaced_weak_function_has_a_place_and_is_none() -> None:
    assert functions.places(LIST)["br_forward"] == [5]
    assert not functions.is_function(LIST[3])


def test_settings_a_killed_recorder_left_are_swept_but_for_active_runs(tmp_path: Path) -> None:
    places = Places(tmp_path / "data", tmp_path / "state")
    places.prepare()
    folder = places.make_run("r1") / "function-graph"
    folder.mkdir()
    (folder / FILE).write_text(json.dumps({"boot_id": "another", "old": {"max_graph_depth": "7"}}))
    found = [item for item in leftovers(places, "n1", []) if item["kind"] == "settings"]
    assert [(item["id"], item["run"]) for item in found] == [("r1/function-graph", "r1")]
    assert not [item for item in leftovers(places, "n1", ["r1"]) if item["kind"] == "settings"]
    assert restore_settings(places, "r1") == ""
    assert not [item for item in leftovers(places, "n1", []) if item["kind"] == "settings"]
