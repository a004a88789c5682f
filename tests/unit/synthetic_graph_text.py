"""function_graph text of recorded rows, with any of the tracer's options: the kernel's rules, written down
anew.

From ``kernel/trace/trace_functions_graph.c`` (6.12): an entry that the CPU's next record ends is a leaf on
one line, a switch of tasks is a banner, a closing brace tells its function where that CPU's last nested entry
of the depth was another's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.unit.synthetic_calls import ENTER, EVENT, EXIT, GAP, Row

OPTIONS = (
    "abstime",
    "cpu",
    "proc",
    "latency",
    "duration",
    "overhead",
    "tail",
    "retval",
    "irqs",
    "modules",
    "args",
)
RULE = " ------------------------------------------\n"


def printed(ns: int) -> int:
    """The nanoseconds that are left of a duration in seven digits."""
    step = {5: 10, 6: 100}.get(len(str(ns // 1000)), 1 if len(str(ns // 1000)) < 5 else 1000)
    return ns // step * step


def duration(ns: int, *, overhead: bool) -> str:
    """The column: mark, number, unit, fill."""
    marks = ((10**9, "$"), (10**8, "@"), (10**7, "*"), (10**6, "#"), (10**5, "!"), (10**4, "+"))
    mark = next((sign for least, sign in marks if ns > least), " ") if overhead else " "
    whole = str(ns // 1000)
    if len(whole) < 7:
        whole += "." + f"{ns % 1000:03d}"[: 7 - len(whole)]
    return f"{mark} {whole} us ".ljust(14) + "|  "


def task(pid: int, comm: Mapping[int, str]) -> str:
    """``comm-pid`` centred in 14 columns; a comm has seven characters."""
    text = f"{comm.get(pid, '<...>')[:7]}-{pid}"
    spaces = max(14 - len(text), 0)
    return " " * (spaces // 2) + text + " " * (spaces - spaces // 2)


def text(rows: Sequence[Row], took: Mapping[int, int], options: set[str], *, comm: Mapping[int, str]) -> str:
    """The file. ``took``: nanoseconds by the index of a row that is an exit."""
    out = ["# tracer: function_graph\n#\n"]
    following: dict[int, int] = {}
    after: dict[int, int] = {}
    for n in range(len(rows) - 1, -1, -1):
        after[n] = following.get(rows[n].cpu, -1)
        following[rows[n].cpu] = n
    last_pid: dict[int, int] = {}
    entered: dict[tuple[int, int], str] = {}
    depth_of: dict[int, int] = {}
    done: set[int] = set()

    def prologue(row: Row) -> str:
        line = ""
        if "abstime" in options:
            line += f"{row.ts // 10**9:5d}.{row.ts % 10**9 // 1000:06d} |  "
        if "cpu" in options:
            line += f" {row.cpu:d}) "
        if "proc" in options:
            line += task(row.pid, comm) + " | "
        if "latency" in options:
            line += " d.h1. | "
        return line

    def symbol(name: str) -> str:
        return f"{name} [mod_{name}]" if "modules" in options and name == "f1" else name

    def value(n: int) -> str:
        return " ret=-22" if n % 2 else f" ret={n:#x}"

    blank = " " * 14 + "|  " if "duration" in options else ""
    for n, row in enumerate(rows):
        if row.kind == GAP:
            out.append(f"CPU:{row.cpu} [LOST 7 EVENTS]\n")
            continue
        if n in done:
            continue
        if last_pid.get(row.cpu, row.pid) != row.pid:
            banner = f" {row.cpu:d}) {task(last_pid[row.cpu], comm)} => {task(row.pid, comm)}\n"
            out.append(RULE + banner + RULE + "\n")
        last_pid[row.cpu] = row.pid
        indent = "  " * row.depth
        arguments = "(skb=0xffff888100000abc, dev=0x0 (STRUCT))" if "args" in options else "()"
        entry = row.kind == ENTER
        if entry and row.name.startswith("asm_") and "irqs" in options:
            fill = "  ==========> |" if "duration" in options else "==========>"
            out.append(prologue(row) + fill + "\n")
        if entry:
            then = rows[after[n]] if after[n] >= 0 else None
            if then and then.kind == EXIT and then.pid == row.pid and then.name == row.name:
                done.add(after[n])
                entered.pop((row.cpu, row.depth), None)
                depth_of[row.cpu] = row.depth - 1
                column = (
                    duration(took[after[n]], overhead="overhead" in options) if "duration" in options else ""
                )
                back = f" /*{value(after[n])} */" if "retval" in options else ""
                out.append(f"{prologue(row)}{column}{indent}{symbol(row.name)}{arguments};{back}\n")
            else:
                entered[row.cpu, row.depth] = row.name
                depth_of[row.cpu] = row.depth
                out.append(f"{prologue(row)}{blank}{indent}{symbol(row.name)}{arguments} {{\n")
        elif row.kind == EXIT:
            same = entered.pop((row.cpu, row.depth), None) == row.name
            depth_of[row.cpu] = row.depth - 1
            column = duration(took[n], overhead="overhead" in options) if "duration" in options else ""
            if "retval" in options:
                close = f"}} /* {symbol(row.name)}{value(n)} */"
            else:
                close = "}" if same and "tail" not in options else f"}} /* {symbol(row.name)} */"
            out.append(f"{prologue(row)}{column}{indent}{close}\n")
        elif row.kind == EVENT:
            depth = depth_of.get(row.cpu, 0)
            pad = "  " * (depth + 1) if depth > 0 else ""
            event = "netif_rx: dev=lo skbaddr=ffff888106afa900 len=84"
            out.append(f"{prologue(row)}{blank}{pad}/* {event} */\n")
    return "".join(out)
