"""Put the kprobes that were asked for into ``latency.bt``, as far as this kernel has the functions.

Reads ``wanted.json`` and the pieces in ``calls.bt``; writes ``latency.bt`` anew, whole. What cannot be traced
here is left out, with a line on stderr that begins with ``swarmscope note: ``; tracepoints run in any case.

A name is looked for in kallsyms, with the suffixes compilers give copies (.isra .constprop .llvm), and tried:
a kprobe and a kretprobe are opened, not enabled, and closed. BTF tells which argument is the packet, so that
a copy with a suffix, whose arguments may have been changed, is timed by task.

Limits: nothing but Python's library, Python 3.8 or newer. Packets are found as a ``struct sk_buff *`` among
the arguments that are passed in registers, not behind ``struct sk_buff **``, and not in lists.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import re
import struct
import sys
from pathlib import Path

PMU = Path("/sys/bus/event_source/devices/kprobe/type")
SWITCH = Path("/sys/kernel/debug/kprobes/enabled")
BTF = Path("/sys/kernel/btf")
MARK = "/* FUNCTIONS */\n"
SUFFIX = re.compile(r"(?:\.(?:isra|constprop|llvm)\.\w+)+")
POINT = re.compile(r"([A-Za-z_]\w*)(%return)?")
PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241, "riscv64": 241, "ppc64le": 319, "s390x": 331, "i686": 336}
REGISTERS = {"x86_64": 6, "s390x": 5, "i686": 0}
"""Arguments in registers; 8 elsewhere."""
FROM, TO = 1001, 1002
"""Codes of the two points on the program's stacks; functions count from 1."""
REASONS = {
    errno.ENOENT: "the kernel does not find it",
    errno.EINVAL: "not traceable here: the kernel forbids a kprobe there",
    errno.EADDRNOTAVAIL: "several functions have this name here",
}


MORE = {1: (4, 0), 3: (12, 0), 4: (0, 12), 5: (0, 12), 6: (0, 8), 13: (0, 8)}
MORE.update({14: (4, 0), 15: (0, 12), 17: (4, 0), 19: (0, 12)})
"""Bytes that follow a type of that kind (BTF): so many, and so many for each member."""


def note(text: str) -> None:
    sys.stderr.write(f"swarmscope note: {text}\n")


class Types:
    """The types of a kernel or, with ``base``, of one of its modules (BTF, Documentation/bpf/btf.rst)."""

    POINTER, STRUCT, FUNCTION, PROTOTYPE = 2, 4, 12, 13
    MODIFIERS = (8, 9, 10, 11, 18)  # typedef volatile const restrict type-tag
    BY_VALUE = (4, 5, 16)  # struct union float: take other registers than one

    def __init__(self, path: Path, base: Types | None = None) -> None:
        self.base, self.data = base, path.read_bytes()
        self.order = "<" if self.data[:2] == b"\x9f\xeb" else ">"
        header, types, types_size, strings, size = struct.unpack_from(self.order + "5I", self.data, 4)
        self.strings = self.data[header + strings : header + strings + size]
        self.first: int = base.first + len(base.places) if base else 1
        self.first_string: int = base.first_string + len(base.strings) if base else 0
        self.places: list[int] = []
        self.functions: dict[int, int] = {}
        at, end, head = header + types, header + types + types_size, struct.Struct(self.order + "3I")
        while at < end:
            name, info, kind_of = head.unpack_from(self.data, at)
            kind = info >> 24 & 0x1F
            self.places.append(at)
            if kind == self.FUNCTION:
                self.functions[name] = kind_of
            once, each = MORE.get(kind, (0, 0))
            at += 12 + once + each * (info & 0xFFFF)

    def packet_argument(self, function: str, registers: int) -> int | None:
        """Which argument of a function is a ``struct sk_buff *``; None for none, or a function not known."""
        prototype = next((self.functions[at] for at in self._names(function) if at in self.functions), None)
        if prototype is None:
            return None
        types, at = self._place(prototype)
        count = struct.unpack_from(self.order + "I", types.data, at + 4)[0] & 0xFFFF
        for number in range(min(count, registers)):
            kind, name, to = self._resolved(
                struct.unpack_from(self.order + "I", types.data, at + 16 + 8 * number)[0]
            )
            if kind in self.BY_VALUE:
                return None
            if kind == self.POINTER:
                kind, name, _ = self._resolved(to)
                if kind == self.STRUCT and self._text(name) == b"sk_buff":
                    return number
        return None

    def _names(self, name: str) -> list[int]:
        found = self.base._names(name) if self.base else []
        at = self.strings.find(b"\0" + name.encode() + b"\0")
        return found + ([self.first_string + at + 1] if at >= 0 else [])

    def _text(self, at: int) -> bytes:
        if self.base and at < self.first_string:
            return self.base._text(at)
        at -= self.first_string
        return self.strings[at : self.strings.index(b"\0", at)]

    def _place(self, number: int) -> tuple[Types, int]:
        if self.base and number < self.first:
            return self.base._place(number)
        return self, self.places[number - self.first]

    def _resolved(self, number: int) -> tuple[int, int, int]:
        """(kind, name, what it points to) of a type behind typedefs and qualifiers."""
        while number:
            types, at = self._place(number)
            name, info, to = struct.unpack_from(self.order + "3I", types.data, at)
            if info >> 24 & 0x1F not in self.MODIFIERS:
                return info >> 24 & 0x1F, name, to
            number = to
        return 0, 0, 0


class Kernel:
    """What this kernel says about the functions ``names``."""

    def __init__(self, names: set[str], tracefs: Path) -> None:
        self.symbols: dict[str, list[tuple[str, str]]] = {name: [] for name in names}
        with Path("/proc/kallsyms").open(encoding="ascii", errors="replace") as file:
            for line in file:
                words = line.split()
                name = words[2].partition(".")[0]
                rest = words[2][len(name) :]
                if name in names and words[1] in "tTwW" and (not rest or SUFFIX.fullmatch(rest)):
                    self.symbols[name].append((words[2], words[3][1:-1] if len(words) > 3 else "vmlinux"))
        self.traceable: set[str] | None = None
        try:
            with (tracefs / "available_filter_functions").open(errors="replace") as file:
                lines = (line.partition(" ")[0].strip() for line in file)
                self.traceable = {name for name in lines if name.partition(".")[0] in names}
        except OSError:
            pass  # a kernel without function tracer: what the kernel accepts is told by trying
        self._types: dict[str, Types] = {}

    def find(self, name: str) -> tuple[list[str], str]:
        """The symbols to probe for a function, and why there is none."""
        known = self.symbols[name]
        chosen = [symbol for symbol, _ in known if symbol == name] or [symbol for symbol, _ in known]
        if not chosen:
            return [], "not in this kernel: inlined, not built, or its module not loaded"
        if len(set(chosen)) < len(chosen):
            return [], REASONS[errno.EADDRNOTAVAIL]
        reason = ""
        for symbol in list(chosen):
            reason = self._refusal(symbol)
            if reason:
                chosen.remove(symbol)
        return chosen, reason

    def _refusal(self, symbol: str) -> str:
        if self.traceable is not None and symbol not in self.traceable:
            return "not traceable here: no probe can be put at its entry"
        number = PERF_EVENT_OPEN.get(os.uname().machine)
        if number is None:
            return ""
        libc, text, kind = (
            ctypes.CDLL(None, use_errno=True),
            ctypes.create_string_buffer(symbol.encode()),
            PMU.read_text(),
        )
        for config in (0, 1):  # at its entry, at its return
            # type size config period sample_type read_format disabled wakeup bp_type kprobe_func offset
            fields = (int(kind), 72, config, 0, 0, 0, 1, 0, 0, ctypes.addressof(text), 0)
            attributes = struct.pack("=IIQQQQQIIQQ", *fields)
            opened = libc.syscall(ctypes.c_long(number), attributes, -1, 0, -1, ctypes.c_ulong(8))
            if opened < 0:
                code = ctypes.get_errno()
                return REASONS.get(code, f"not traceable here: {os.strerror(code)}")
            os.close(opened)
        return ""

    def packet(self, name: str, symbols: list[str]) -> int | None:
        """Which argument is the packet; None where none is, or where it cannot be told."""
        if symbols != [name]:
            return None
        machine = os.uname().machine
        return self._of(dict(self.symbols[name])[name]).packet_argument(name, REGISTERS.get(machine, 8))

    def _of(self, module: str) -> Types:
        if module not in self._types:
            base = None if module == "vmlinux" else self._of("vmlinux")
            if base and not (BTF / module).is_file():
                return base
            self._types[module] = Types(BTF / module, base)
        return self._types[module]


class Point:
    """A place in the kernel: where a function begins or, with ``at_end``, returns."""

    def __init__(self, text: str) -> None:
        found = POINT.fullmatch(text)
        self.text, self.function, self.at_end = (
            text,
            found.group(1) if found else "",
            bool(found and found.group(2)),
        )
        self.symbols: list[str] = []
        self.packet: int | None = None

    @property
    def event(self) -> str:
        return f"{'kretprobe' if self.at_end else 'kprobe'}:{self.function}"

    @property
    def piece(self) -> str:
        """How its program learns of its packet."""
        return "no-packet" if self.packet is None else "packet"

    def resolve(self, kernel: Kernel) -> str:
        """Find it; why that failed, or empty."""
        self.symbols, reason = kernel.find(self.function)
        if self.symbols and self.symbols != [self.function]:
            note(f"{self.function} is {', '.join(self.symbols)} here: timed by task, all packets together")
        self.packet = kernel.packet(self.function, self.symbols)
        return "" if self.symbols else reason


class Program:
    """Probes made of the pieces in ``calls.bt``."""

    def __init__(self, pieces: str) -> None:
        found = re.split(r"^== (\S+) ==\n", pieces, flags=re.MULTILINE)
        self.pieces = {found[at]: found[at + 1] for at in range(1, len(found), 2)}
        self.text = ""
        self.said: list[str] = []

    def probe(self, kind: str, point: Point, *pieces: str, **words: object) -> None:
        words.update(
            ARGUMENT=f"arg{point.packet}", PROBES=", ".join(f"{kind}:{symbol}" for symbol in point.symbols)
        )
        text = "PROBES /@open > 0/ {\n" + self.pieces["who"] + "".join(self.pieces[piece] for piece in pieces)
        text += "}\n" * (1 + ("pop" in pieces))
        self.text += re.sub(r"\b[A-Z]{2,}\b", lambda word: str(words.get(word.group(), word.group())), text)

    def stack(self, point: Point, code: int, *at_end: str, **words: object) -> None:
        """Remember each call from its beginning to its end, where ``at_end`` is done with it."""
        self.probe("kprobe", point, point.piece, "push", CODE=code)
        self.probe("kretprobe", point, "pop", *at_end, CODE=code, **words)

    def function(self, point: Point, code: int) -> None:
        self.stack(point, code, "count")
        self.say(code, f"kprobe:{point.function}", f"kretprobe:{point.function}", point.packet is not None)

    def between(self, start: Point, end: Point) -> None:
        """By packet where both ends have it; else by task: within the call of ``start``, or after it."""
        by_packet = start.packet is not None and end.packet is not None
        (self._by_packet if by_packet else self._by_task)(start, end)
        self.say(0, start.event, end.event, by_packet)

    def _by_packet(self, start: Point, end: Point) -> None:
        if start.at_end:
            self.probe("kprobe", start, "packet", "mark-alive", "push", CODE=FROM)
            self.probe("kretprobe", start, "pop", "mark-again", CODE=FROM)
        else:
            self.probe("kprobe", start, "packet", "mark", KEY="$skb")
        if end.at_end:
            self.probe("kprobe", end, "claim", "push", CODE=TO)
            self.probe("kretprobe", end, "pop", "meet-claimed", CODE=TO)
        else:
            self.probe("kprobe", end, "address", "meet", KEY="$skb")
        self.text += self.pieces["forget"]

    def _by_task(self, start: Point, end: Point) -> None:
        self.stack(start, FROM, *["mark"] * start.at_end, KEY="$who")
        meet = "meet" if start.at_end else "meet-within"
        if end.at_end:
            self.stack(end, TO, meet, KEY="$who", START=FROM)
        else:
            self.probe("kprobe", end, end.piece, meet, KEY="$who", START=FROM)

    def say(self, code: int, start: str, end: str, by_packet: bool) -> None:
        self.said.append(f"swarmscope timed {code} {start} {end} {'packet' if by_packet else 'task'}")


def main() -> None:
    wanted = json.loads(Path("wanted.json").read_text())
    functions = [
        Point(name) for name in dict.fromkeys(re.split(r"[\s,]+", wanted["functions"].strip())) if name
    ]
    ends = [Point(wanted[end].strip()) for end in ("from", "to") if wanted[end].strip()]
    everything = [*functions, *ends]
    reason = without_kprobes()
    if reason:
        names = " ".join(point.text for point in everything)
        note(f"{reason}: not timed: {names}; steps between tracepoints are")
        return
    kernel = Kernel({point.function for point in everything}, Path(wanted["tracefs"]))
    found = {point: usable(point, kernel, as_point=point in ends) for point in everything}
    program = Program(Path("calls.bt").read_text())
    timed = [point for point in functions if found[point]]
    for code, point in enumerate(timed, 1):
        program.function(point, code)
    if len(ends) == 1:
        note(f"{ends[0].text} is one end: the time between two points wants both `from` and `to`")
    elif ends and ends[0].function == ends[1].function:
        ways = f"from {ends[0].text} to {ends[1].text}"
        note(f"{ways} is the time in a function: `functions: {ends[0].function}`")
    elif ends and all(found[end] for end in ends):
        program.between(*ends)
    lines = "".join(f'  printf("{line}\\n");\n' for line in program.said)
    text = Path("latency.bt").read_text().replace(MARK, program.text).replace("/* TIMED */\n", lines)
    Path("latency.bt.new").write_text(text)
    Path("latency.bt.new").replace("latency.bt")


def without_kprobes() -> str:
    """Why no function at all can be timed on this kernel; empty where some can."""
    if not PMU.exists():
        return "this kernel has no kprobes"
    try:
        return (
            ""
            if SWITCH.read_text().strip() != "0"
            else "kprobes are switched off here (debug/kprobes/enabled)"
        )
    except OSError:
        return ""


def usable(point: Point, kernel: Kernel, *, as_point: bool) -> bool:
    if not point.function or (point.at_end and not as_point):
        note(f"{point.text!r} is no function's name: not timed")
        return False
    reason = point.resolve(kernel)
    if reason:
        note(f"{point.function}: {reason}: not timed")
    return not reason


if __name__ == "__main__":
    main()
