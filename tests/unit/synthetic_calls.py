"""Kernel functions that call each other on two CPUs: what a tracer records of them, and what is true.

Tasks are switched and migrate, interrupts fall into whatever runs, other events happen in between. The truth
is told from the trees, in another way than ``trace.calls`` finds it: from the top, asking each row where a
task was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

import numpy as np

from swarmscope.trace import calls

CPUS = 2
PIDS = (11, 12, 13)
NAMES = [
    *(f"f{n}" for n in range(6)),
    *("irq_enter_rcu", "__sysvec_apic_timer_interrupt", "asm_common_interrupt", "sysvec_reschedule_ipi"),
    *("irq_exit_rcu", "__irq_exit_rcu", "handle_softirqs"),
]
ENTER, EXIT, EVENT, GAP = range(4)


@dataclass
class Call:
    """One call. ``interrupts`` fell into it, not into one of its callees."""

    name: str
    pid: int
    first: int
    last: int = -1
    callees: list[Call] = field(default_factory=list)
    interrupts: list[Call] = field(default_factory=list)


@dataclass(frozen=True)
class Row:
    """What was recorded; ``depth`` as the kernel counts it, interrupts included."""

    ts: int
    cpu: int
    pid: int
    kind: int
    name: str = ""
    depth: int = -1
    call: int = -1


class World:
    """``rows`` and the trees (``roots``) of a random run; ``plain`` makes no direct recursion."""

    def __init__(self, seed: int, *, steps: int = 120, plain: bool = False) -> None:
        self.random = Random(seed)
        self.plain = plain
        self.rows: list[Row] = []
        self.roots: list[Call] = []
        self.now = self.random.randrange(10**6)
        self.running: list[tuple[int, int]] = [(0, cpu) for cpu in range(CPUS)]
        self.stacks: dict[tuple[int, int], list[Call]] = {}
        self.calls: list[Call] = []
        for _ in range(steps):
            self._step(self.random.randrange(CPUS))
        for task in list(self.stacks):
            cpu = max(task[1], 0)
            self.running[cpu] = task
            while self.stack(cpu):
                self._exit(cpu)

    def stack(self, cpu: int) -> list[Call]:
        """The open calls of the task that runs there."""
        return self.stacks.setdefault(self.running[cpu], [])

    def _record(self, cpu: int, kind: int, name: str = "", call: int = -1) -> None:
        self.now += self.random.choice((1, 3, 40, 1500))
        depth = len(self.stack(cpu)) - 1
        self.rows.append(Row(self.now, cpu, self.running[cpu][0], kind, name, depth, call))

    def _enter(self, cpu: int, name: str, *, interrupt: bool = False) -> None:
        stack = self.stack(cpu)
        call = Call(name, self.running[cpu][0], len(self.rows))
        if not stack or interrupt:
            self.roots.append(call)
        if stack:
            (stack[-1].interrupts if interrupt else stack[-1].callees).append(call)
        stack.append(call)
        self.calls.append(call)
        self._record(cpu, ENTER, name, len(self.calls) - 1)

    def _exit(self, cpu: int) -> None:
        call = self.stack(cpu)[-1]
        call.last = len(self.rows)
        self._record(cpu, EXIT, call.name, self.calls.index(call))
        self.stack(cpu).pop()

    def _step(self, cpu: int) -> None:
        stack = self.stack(cpu)
        what = self.random.random()
        if what < 0.35 and len(stack) < 9:
            names = [name for name in NAMES[:6] if not (self.plain and stack and stack[-1].name == name)]
            self._enter(cpu, self.random.choice(names))
        elif what < 0.7 and stack:
            self._exit(cpu)
        elif what < 0.8:
            busy = set(self.running)
            tasks = [task for task in [(0, cpu), *((pid, -1) for pid in PIDS)] if task not in busy]
            self.running[cpu] = self.random.choice(tasks)
        elif what < 0.88:
            self._record(cpu, EVENT)
        elif what > 0.93 and len(stack) < 12:
            self._interrupt(cpu, 0)

    def _interrupt(self, cpu: int, nested: int) -> None:
        """What x86 shows of one: a path, or siblings; softirq work at its end, interrupted again."""
        random = self.random
        path = random.choice(
            (
                ["asm_common_interrupt", "sysvec_reschedule_ipi"],
                ["__sysvec_apic_timer_interrupt"],
                ["irq_enter_rcu"],
            )
        )
        self._enter(cpu, path[0], interrupt=True)
        for name in path[1:]:
            self._enter(cpu, name)
        for _ in range(random.randrange(3)):
            self._enter(cpu, random.choice(NAMES[:5]))
            self._exit(cpu)
        for _ in path:
            self._exit(cpu)
        if random.random() < 0.5:
            self._enter(cpu, "irq_exit_rcu", interrupt=True)
            if random.random() < 0.5:
                self._enter(cpu, "__irq_exit_rcu")
                self._exit(cpu)
            self._enter(cpu, "handle_softirqs")
            self._enter(cpu, "f5")
            if nested < 2 and random.random() < 0.5:
                self._interrupt(cpu, nested + 1)
            for _ in range(3):
                self._exit(cpu)

    def _slept(self, call: Call) -> bool:
        cpu = self.rows[call.first].cpu
        idle = self.rows[call.first].cpu if call.pid == 0 else None
        for row in self.rows[call.first + 1 : call.last]:
            mine = row.pid == call.pid and (idle is None or row.cpu == idle)
            if (mine and row.cpu != cpu) or (not mine and row.cpu == cpu):
                return True
        return self.rows[call.last].cpu != cpu

    def _gross(self, call: Call) -> int:
        return self.rows[call.last].ts - self.rows[call.first].ts

    def _cut(self, call: Call) -> int:
        return sum(map(self._gross, call.interrupts)) + sum(map(self._cut, call.callees))

    def truth(self, calls: Sequence[Call] | None = None, *, parent: str = "", depth: int = 0) -> list[tuple]:
        """Entry's row, function, parent, depth, dur, self, irq, slept and folded of each call."""
        found = []
        for call in self.roots if calls is None else calls:
            callees, folded = list(call.callees), 0
            while same := [inner for inner in callees if inner.name == call.name]:
                folded += len(same)
                callees = [inner for inner in callees if inner not in same]
                callees += [below for inner in same for below in inner.callees]
            cut = self._cut(call)
            below = sum(self._gross(inner) - self._cut(inner) for inner in callees)
            dur = self._gross(call) - cut
            found.append(
                (call.first, call.name, parent, depth, dur, dur - below, cut, self._slept(call), folded)
            )
            found += self.truth(callees, parent=call.name, depth=depth + 1)
        return sorted(found)


def edges(rows: Sequence[Row], *, depths: bool = True) -> calls.Edges:
    """The rows as ``trace.calls`` takes them."""
    kinds = {EVENT: calls.SIGHTING, GAP: calls.GAP}
    return calls.Edges(
        ts=np.array([row.ts for row in rows], np.int64),
        cpu=np.array([row.cpu for row in rows], np.int32),
        pid=np.array([row.pid for row in rows], np.int32),
        exit=np.array([row.kind == EXIT for row in rows], np.bool_),
        function=np.array(
            [kinds[row.kind] if row.kind in kinds else NAMES.index(row.name) for row in rows], np.int32
        ),
        depth=np.array([row.depth if depths else -1 for row in rows], np.int32),
        retval=None,
        names=NAMES,
        comm={0: "<idle>", 11: "ping", 12: "a b:c", 13: "-1 [0]"},
    )
