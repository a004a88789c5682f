"""What ``bpftrace-latency`` makes of functions to time: probes for each release, and the types read."""

from __future__ import annotations

import importlib.util
import itertools
import re
import struct
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from swarmscope.collectors import load, render
from swarmscope.places import shipped
from tests.unit.test_collectors import CONTEXT

FOLDER = shipped("collectors") / "bpftrace-latency"
RELEASES = ([0, 17], [0, 20], [0, 23])
WAYS: dict[str, dict[str, str]] = {
    "functions": {"functions": "with_packet, plain"},
    "packet to packet": {"from": "with_packet", "to": "other_packet"},
    "packet to the return of one": {"from": "with_packet", "to": "other_packet%return"},
    "the return of one to a packet": {"from": "with_packet%return", "to": "other_packet"},
    "while a function runs": {"from": "plain", "to": "with_packet"},
    "while a function runs, to a return": {"from": "plain", "to": "other%return"},
    "after a function": {"from": "plain%return", "to": "other"},
    "all": {"functions": "plain", "from": "plain", "to": "with_packet"},
}
WITH_PACKET = {"with_packet": 0, "other_packet": 2}


@pytest.fixture(scope="module")
def functions() -> ModuleType:
    spec = importlib.util.spec_from_file_location("functions_of_bpftrace_latency", FOLDER / "functions.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def files(options: dict[str, Any], bpftrace: list[int]) -> dict[str, str]:
    rendered: dict[str, str] = render(
        load(FOLDER), options=options, context={**CONTEXT, "bpftrace": bpftrace}
    )["files"]
    return rendered


def program(functions: ModuleType, options: dict[str, str], bpftrace: list[int]) -> str:
    """The probes for functions that a kernel would have."""
    made = functions.Program(files(options, bpftrace)["calls.bt"])
    ends = []
    for key in ("functions", "from", "to"):
        for number, text in enumerate(re.split(r"[\s,]+", options.get(key, "")), 1):
            if text:
                point = functions.Point(text)
                point.symbols, point.packet = [point.function], WITH_PACKET.get(point.function)
                if key == "functions":
                    made.function(point, number)
                else:
                    ends.append(point)
    if ends:
        made.between(*ends)
    assert made.said
    text: str = made.text
    return text


@pytest.mark.parametrize(("bpftrace", "way"), list(itertools.product(RELEASES, WAYS)), ids=str)
def test_every_way_of_timing_gives_whole_probes_for_every_release(
    functions: ModuleType, bpftrace: list[int], way: str
) -> None:
    text = program(functions, WAYS[way], bpftrace)
    assert text.count("{") == text.count("}")
    bare = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    assert not re.findall(r"\b(CODE|KEY|START|ARGUMENT|PROBES)\b", bare), "a word was not filled"
    assert "argNone" not in text
    probes = re.findall(r"^(k(?:ret)?probe):(\w+) /@open > 0/ \{$", text, re.MULTILINE)
    for function in re.findall(r"[a-z]\w+", " ".join(WAYS[way].values()).replace("%return", "")):
        assert ("kprobe", function) in probes
    assert ("nsecs(monotonic)" in text) == (bpftrace >= [0, 19])
    assert ("args." in text or "args->" in text) == ("packet to" in way or "one to a packet" in way)


def test_a_packet_is_the_argument_that_the_types_say(functions: ModuleType) -> None:
    assert "(uint64)arg0" in program(functions, {"functions": "with_packet"}, [0, 23])
    text = program(functions, {"functions": "plain"}, [0, 23])
    assert "sk_buff" not in text


def test_points_that_both_get_the_packet_are_paired_by_it_and_others_by_task(functions: ModuleType) -> None:
    by_packet = program(functions, WAYS["packet to packet"], [0, 23])
    assert "@marked[$skb] = " in by_packet and "kretprobe" not in by_packet
    assert "delete(@marked[(uint64)args.skbaddr])" in by_packet  # freed on the way
    ended = program(functions, WAYS["packet to the return of one"], [0, 23])
    # A packet may be freed in the function: its mark is taken when the function begins.
    assert ended.index("delete(@marked[(uint64)arg2])") < ended.index("kretprobe:other_packet")
    within = program(functions, WAYS["while a function runs"], [0, 23])
    assert "@marked" not in within and "kretprobe:plain" in within
    assert "@marked[$who] = " in program(functions, WAYS["after a function"], [0, 23])


def test_all_that_is_wanted_reaches_the_host_as_data_whatever_it_holds() -> None:
    made = files({"functions": "a'; rm -rf /; \"$(b)"}, [0, 23])
    assert "rm -rf" not in made["record.sh"] + made["latency.bt"] + made["calls.bt"]
    assert "rm -rf" in made["wanted.json"]


def test_without_functions_nothing_is_looked_up() -> None:
    made = files({}, [0, 23])
    assert "functions.py" not in made["record.sh"]
    assert "@depth" not in made["latency.bt"]


def test_the_gate_lets_calls_end_that_began_before_it_closed() -> None:
    text = files({"functions": "a"}, [0, 23])["latency.bt"]
    assert "{ @open = 2; }" in text
    assert all(
        "/@open == 1/" in line for line in text.splitlines() if re.match(r"tracepoint:(net|skb)", line)
    )


@pytest.mark.parametrize("name", ["a b", "vxlan*", "a%return", "a;b", "1a", "a.isra.0"])
def test_what_is_no_functions_name_is_said_and_the_rest_is_timed(
    functions: ModuleType, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    point = functions.Point(name)
    assert not functions.usable(point, None, as_point=False)
    assert capsys.readouterr().err == f"swarmscope note: {name!r} is no function's name: not timed\n"


class Kernel:
    """A kernel's types for :class:`Types`: built by hand, as BTF lays them out."""

    def __init__(self, base: Kernel | None = None) -> None:
        self.base = base
        self.strings = b"\0" if base is None else b""
        self.types: list[bytes] = []

    def text(self, name: str) -> int:
        if not name:
            return 0
        at = (len(self.base.strings) if self.base else 0) + len(self.strings)
        self.strings += name.encode() + b"\0"
        return at

    def add(self, kind: int, name: str = "", to: int = 0, more: bytes = b"", members: int = 0) -> int:
        self.types.append(struct.pack("<3I", self.text(name), kind << 24 | members, to) + more)
        return len(self.types) + (len(self.base.types) if self.base else 0)

    def function(self, name: str, *arguments: int) -> int:
        pairs = b"".join(struct.pack("<2I", self.text("x"), argument) for argument in arguments)
        return self.add(12, name, self.add(13, "", 0, pairs, len(arguments)))

    def write(self, path: Path) -> Path:
        types = b"".join(self.types)
        header = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(self.strings))
        path.write_bytes(header + types + self.strings)
        return path


def test_types_tell_which_argument_is_the_packet(functions: ModuleType, tmp_path: Path) -> None:
    kernel = Kernel()
    number = kernel.add(1, "int", 4, struct.pack("<I", 32))
    packet = kernel.add(4, "sk_buff", 232, struct.pack("<3I", kernel.text("len"), number, 0), 1)
    device = kernel.add(4, "net_device", 1000)
    pointer, to_device = kernel.add(2, "", packet), kernel.add(2, "", device)
    constant = kernel.add(2, "", kernel.add(10, "", packet))
    named = kernel.add(8, "skb_t", pointer)
    to_pointer = kernel.add(2, "", pointer)
    kernel.function("vxlan_like", pointer, to_device)
    kernel.function("second", to_device, constant)
    kernel.function("named", number, number, named)
    kernel.function("behind_a_pointer", to_pointer)
    kernel.function("by_value_before", device, pointer)
    kernel.function("seventh", *[number] * 6, pointer)
    kernel.function("none")
    types = functions.Types(kernel.write(tmp_path / "vmlinux"))
    found = {name: types.packet_argument(name, 6) for name in ("vxlan_like", "second", "named")}
    assert found == {"vxlan_like": 0, "second": 1, "named": 2}
    for name in ("behind_a_pointer", "by_value_before", "seventh", "none", "nowhere"):
        assert types.packet_argument(name, 6) is None, name
    module = Kernel(kernel)
    own = module.add(4, "vxlan_dev", 8)
    module.function("in_module", module.add(2, "", own), pointer)
    split = functions.Types(module.write(tmp_path / "vxlan"), types)
    assert split.packet_argument("in_module", 6) == 1
    assert split.packet_argument("vxlan_like", 6) is None  # of the base, not of the module


def test_this_kernels_own_types_are_read_to_the_end(functions: ModuleType) -> None:
    path = Path("/sys/kernel/btf/vmlinux")
    if not path.exists():
        pytest.skip("no /sys/kernel/btf/vmlinux on this machine")
    types = functions.Types(path)
    assert types.packet_argument("ip_rcv", 6) == 0
    assert types.packet_argument("ip_local_out", 6) == 2
    assert types.packet_argument("net_rx_action", 6) is None


def test_losses_are_counted_apart_from_the_sums(tmp_path: Path) -> None:
    made = files({"functions": "a"}, [0, 23])
    (tmp_path / "histograms.json").write_text(
        '{"type": "stats", "data": {"@called": {"1,0": {"count": 7, "average": 1, "total": 7}}}}\n'
        '{"type": "hist", "data": {"@calls": {"1,0": [{"min": 1, "max": 1, "count": 7}]}}}\n'
        '{"type": "map", "data": {"@entered": 10}}\n'
        '{"type": "map", "data": {"@left": 7}}\n'
        '{"type": "map", "data": {"@lost": 2}}\n'
        '{"type": "hist", "data": {"@ns": {"1,1,1,2,1,1,0": [{"min": 1, "max": 1, "count": 4}]}}}\n'
        '{"type": "map", "data": {"@steps": 5}}\n'
    )
    (tmp_path / "after.sh").write_text(made["after.sh"])
    subprocess.run(["bash", "after.sh"], cwd=tmp_path, check=True)
    assert (tmp_path / "losses.json").read_text() == '{"map_full": 3, "unfinished": 3}\n'


def test_the_script_needs_nothing_but_an_old_python() -> None:
    text = (FOLDER / "functions.py").read_text(encoding="utf-8")
    imported = re.findall(r"^(?:import|from) (\w+)", text, re.MULTILINE)
    assert set(imported) <= set(sys.stdlib_module_names) | {"__future__"}
    assert "match " not in text and "slots=True" not in text
