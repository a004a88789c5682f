"""A trace buffer for functions: an instance of its own where the kernel has the graph tracer there, else the
top level, which is given back as it was.

Roots, depth and the funcgraph options exist once for the whole kernel, also beside instances. They are
changed only while nobody else graphs, each old value on disk before; recordings of a run that graph at the
same time want the same options, and the last one to end puts them back.
"""

import contextlib
import errno
import fcntl
import os
import time
from pathlib import Path

from agent import functions
from agent.trace_settings import FILE, Settings, read, write

GRAPH = "function_graph"
OURS = "swarmscope."
# Entry and exit of each call stand alone and say who made it; marks, overruns and addresses disturb reading.
GRAPH_OPTIONS = {
    **dict.fromkeys(["funcgraph-abstime", "funcgraph-proc", "funcgraph-cpu", "funcgraph-duration"], "1"),
    **dict.fromkeys(["funcgraph-tail", "funcgraph-irqs", "funcgraph-retval", "funcgraph-args"], "1"),
    **dict.fromkeys(["funcgraph-overhead", "funcgraph-overrun"], "0"),
    **dict.fromkeys(["funcgraph-retval-hex", "funcgraph-retaddr"], "0"),
    **dict.fromkeys(["sleep-time", "graph-time"], "1"),
}
OPTIONS = {
    **dict.fromkeys(["overwrite", "context-info", "irq-info", "annotate"], "1"),
    **dict.fromkeys(["hash-ptr", "latency-format", "raw", "hex", "bin", "fields", "verbose"], "0"),
    **dict.fromkeys(["sym-offset", "sym-addr", "stacktrace", "userstacktrace", "record-tgid"], "0"),
    **dict.fromkeys(["pause-on-trace", "display-graph"], "0"),
}
NOBODY = {
    "set_ftrace_pid": [],
    "set_ftrace_notrace_pid": [],
    "set_event_pid": [],
    "set_event_notrace_pid": [],
}
WAIT_S = 60


class Refused(Exception):
    """Why nothing is recorded; one line for the user."""


class Buffer:
    """Where one recorder's events go: ``open``, ``trace``, ``close``."""

    def __init__(self, root, name, folder):
        self.root = Path(root)
        self.path = self.root / "instances" / name
        self.own = True
        self._anything = 0
        self.settings = Settings(self.root, Path(folder) / FILE)
        # Locks on files of tracefs count for the whole kernel, and end with their holder.
        self._turn = os.open(self.root / "max_graph_depth", os.O_RDONLY | os.O_CLOEXEC)
        self._users = os.open(self.root / "available_tracers", os.O_RDONLY | os.O_CLOEXEC)

    def open(self, tracer, *, own, buffer_kb, anything):
        """Make the buffer, closed, on the monotonic clock; ``anything``: the place of some function. Raises
        ``Refused``.
        """
        enabled = Path("/proc/sys/kernel/ftrace_enabled")
        if tracer != "nop" and enabled.exists() and enabled.read_text().strip() == "0":
            raise Refused("kernel.ftrace_enabled is 0: no function can be traced")
        self._anything = anything
        if own:
            self.path.mkdir()
            (self.path / "tracing_on").write_text("0")
            if tracer != "nop" and not self._takes(tracer):
                self._remove()
                own = False
        if not own:
            self._take_top()
        self._put("trace_clock", "mono")
        # At most 512 MB of kernel memory, however many CPUs there are.
        cpus = len(list((self.path / "per_cpu").iterdir()))
        self._put("buffer_size_kb", str(min(buffer_kb, (512 << 10) // cpus)))
        for option, value in OPTIONS.items():
            if (self.path / "options" / option).exists():
                self._put("options/" + option, value)

    def trace(self, tracer, *, chosen, excluded, roots, depth):
        """Set what is traced. ``chosen``: the places of functions (empty: all), ``excluded`` likewise (empty:
        none), ``roots``: a ``Choice``.
        """
        self._put("current_tracer", "nop")
        with self._my_turn():
            if tracer == GRAPH:
                self._set_graph(roots, depth)
            fcntl.flock(self._users, fcntl.LOCK_SH)
        self._filter("set_ftrace_filter", chosen)
        self._filter("set_ftrace_notrace", excluded)
        self._put("current_tracer", tracer)

    def enable(self, event):
        """Record a tracepoint, ``system:name``, too."""
        self._put("events/{}/enable".format(event.replace(":", "/")), "1")

    def stop(self):
        """Record nothing more, and no longer slow down what was traced: reading the buffer takes its time."""
        (self.path / "tracing_on").write_text("0")
        if read(self.path / "current_tracer") != "nop":
            functions.write_words(self.path / "set_ftrace_filter", [str(self._anything)])

    def counters(self):
        """What the ring buffers lost, all CPUs together."""
        wanted = {"overrun": "overrun", "commit overrun": "commit_overrun", "dropped events": "dropped"}
        lost = dict.fromkeys(wanted.values(), 0)
        for stats in (self.path / "per_cpu").glob("cpu*/stats"):
            for line in stats.read_text().splitlines():
                name, _, value = line.partition(":")
                if name in wanted:
                    lost[wanted[name]] += int(value)
        return lost

    def close(self):
        """Remove the instance or give the top level back; what could not be, empty where all is well."""
        left = self._remove() if self.own else ""
        fcntl.flock(self._users, fcntl.LOCK_UN)
        with self._last_one():
            return "; ".join(filter(None, (left, self.settings.restore())))

    def _takes(self, tracer):
        """Whether the instance takes the tracer: before 6.11 a kernel graphs at the top level only."""
        functions.write_words(self.path / "set_ftrace_filter", [str(self._anything)])
        try:
            (self.path / "current_tracer").write_text(tracer)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return False
        (self.path / "current_tracer").write_text("nop")
        return True

    def _take_top(self):
        tracer = read(self.root / "current_tracer")
        if tracer != "nop":
            raise Refused(
                f"somebody uses the {tracer} tracer ({self.root}/current_tracer), and this kernel has one"
            )
        events = (self.root / "set_event").read_text().split()
        if events:
            raise Refused(
                f"somebody records {events[0]} into {self.root}, and this kernel graphs nowhere else"
            )
        self.path, self.own = self.root, False
        self._put("tracing_on", "0")
        for name, value in NOBODY.items():
            if (self.root / name).exists():
                self._put(name, value)
        self._put("tracing_cpumask", _all_cpus())

    def _put(self, name, value):
        if self.own:
            write(self.root, self.path / name, value)
        else:
            self.settings.change(name, value)

    def _filter(self, name, places):
        if not self.own:
            self.settings.keep(name)
        refused = functions.write_words(self.path / name, map(str, places))
        if refused:
            raise Refused(f"the kernel refused {len(refused)} functions in {name}")

    def _set_graph(self, roots, depth):
        alone = self._alone()
        # By name, the only way here: globs stay globs where the kernel knows them.
        words = list(roots.matched)
        names = [line.partition(" ")[0] for line in roots.names]
        roots_as = names if any(":mod:" in word for word in words) else words
        self._set_for_all("max_graph_depth", str(depth), alone)
        self._set_for_all("set_graph_notrace", [], alone)
        self._set_for_all("set_graph_function", names, alone, roots_as)
        for option, value in GRAPH_OPTIONS.items():
            name = "options/" + option
            target = self.path / name
            if not target.exists() or read(target) == value:
                continue
            self._refuse_beside_others(name)
            self.settings.keep(name)
            write(self.root, target, value)
            self.settings.unchanged(name)  # then each instance has its own in this kernel

    def _set_for_all(self, name, value, alone, written=None):
        current = read(self.root / name)
        if sorted(current) == sorted(value):
            return
        if not alone:
            raise Refused(f"another recorder graphs with another {name}, and the kernel has one for all")
        self._refuse_beside_others(name)
        self.settings.keep(name)
        write(self.root, self.root / name, value if written is None else written)

    def _refuse_beside_others(self, name):
        for place in (self.root, *(self.root / "instances").iterdir()):
            ours = place == self.path or place.name.startswith(OURS)
            if not ours and read(place / "current_tracer") == GRAPH:
                raise Refused(f"somebody graphs functions in {place}; {name} would change for them as well")

    def _alone(self):
        try:
            fcntl.flock(self._users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    @contextlib.contextmanager
    def _my_turn(self):
        fcntl.flock(self._turn, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._turn, fcntl.LOCK_UN)

    @contextlib.contextmanager
    def _last_one(self):
        """Wait until others that rely on the settings have ended, but not for ever."""
        until = time.monotonic() + WAIT_S
        while True:
            with self._my_turn():
                if self._alone() or time.monotonic() > until:
                    yield
                    return
            time.sleep(0.1)

    def _remove(self):
        if not self.path.is_dir():
            return ""
        (self.path / "tracing_on").write_text("0")
        (self.path / "current_tracer").write_text("nop")
        for _ in range(100):  # busy while somebody holds one of its files open
            try:
                self.path.rmdir()
                return ""
            except OSError as error:
                why = error.strerror
            time.sleep(0.1)
        return f"trace instance {self.path} could not be removed: {why}"


def _all_cpus():
    """A mask of all CPUs as tracing_cpumask shows it: words of 32 bits, commas between."""
    possible = Path("/sys/devices/system/cpu/possible").read_text().strip()
    last = int(possible.replace(",", "-").rpartition("-")[2])
    digits = "%x" % ((1 << (last + 1)) - 1)
    head = len(digits) % 8
    words = [digits[:head]] * bool(head) + [digits[i : i + 8] for i in range(head, len(digits), 8)]
    return ",".join(words)
