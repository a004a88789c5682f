"""One recorder from its configuration to the buffer that is traced into, and back.

Shared by the collectors that trace functions: ``main(save)`` calls ``save(buffer, about, config)`` when the
recording is over.
"""

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

sys.path.append(os.environ["SWARMSCOPE_LIBRARY"])

import choosing
from agent import functions
from buffer import GRAPH, Buffer, Refused

STACKS = "path"
"""The preset that is not in presets.txt: what the stacks of a rehearsal contain."""


class Stop(Exception):
    """An interrupt: the end of a recording."""


def main(save):
    """Record until an interrupt or the end of stdin; the exit code."""
    config = json.loads(Path("config.json").read_text(encoding="utf-8"))
    interrupts = Interrupts()
    buffer, about, problem = None, None, ""
    try:
        try:
            buffer = Buffer(config["tracefs"], config["instance"], Path.cwd())
            about = _arm(buffer, config)
            _wait([sys.stdin])
        finally:
            interrupts.ignore()
    except Stop:
        pass
    except (Refused, OSError) as error:
        problem = str(error)
    try:
        if buffer and about and not problem:
            buffer.stop()
            Path("losses.json").write_text(json.dumps(buffer.counters()) + "\n", encoding="utf-8")
            save(buffer, about, config)
    except OSError as error:
        problem = str(error)
    finally:
        left = buffer.close() if buffer else ""
    for text in filter(None, (problem, left)):
        say("error: " + text)
    return 1 if problem or left else 0


class Interrupts:
    """The first INT or TERM raises ``Stop``, and no other: what was changed must be put back in peace."""

    def __init__(self):
        self._over = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._came)

    def _came(self, number, frame):
        if not self._over:
            self._over = True
            raise Stop

    def ignore(self):
        """From here on, also in the programs that are started."""
        self._over = True
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)


def say(text):
    """A line for the agent, and for whoever reads why a recorder failed."""
    print(text, file=sys.stderr, flush=True)


def _arm(buffer, config):
    """Everything up to the closed gate; what was set, for options.json."""
    options, tracer = config["options"], config["options"].get("plugin", GRAPH)
    tracer = "nop" if tracer == "none" else tracer
    lines = functions.traceable(buffer.root)
    words, rehearse = _words(options)
    anything = next((place for place, line in enumerate(lines, 1) if functions.is_function(line)), 0)
    buffer.open(tracer, own=options["instance"], buffer_kb=options["buffer_kb"], anything=anything)
    # The agent opens the gate by this name: only now is it known whose tracing_on it is.
    Path("gate").symlink_to(buffer.path / "tracing_on")
    for event in options["events"].split():
        if event not in config["tracepoints"]:
            raise Refused(f"this kernel has no tracepoint {event}")
        buffer.enable(event)
    if rehearse and tracer != "nop":
        words += _rehearse(config)
    about = {"tracer": tracer, "own_instance": buffer.own, "options": options}
    if tracer != "nop":
        about.update(_trace(buffer, tracer, lines, words, options))
    say("swarmscope rehearsed" if rehearse else "swarmscope armed")
    return about


def _words(options):
    """Words of the options and presets, and whether a rehearsal is to add more."""
    presets = choosing.read_presets(Path("presets.txt").read_text(encoding="utf-8"))
    words, names = options["functions"].split(), options["preset"].split()
    for name in names:
        if name != STACKS and name not in presets:
            raise Refused("no preset is called {}: there are {}".format(name, " ".join([*presets, STACKS])))
        words += presets.get(name, [])
    if not words and not names and not options["roots"].split():
        raise Refused("neither functions nor preset nor roots: that would trace the whole kernel")
    return words, STACKS in names


def _trace(buffer, tracer, lines, words, options):
    roots = choosing.choose(lines, options["roots"].split())
    unmatched = [word for word, count in roots.matched.items() if not count]
    if unmatched:
        raise Refused("no function to start from is called {}".format(" ".join(unmatched)))
    excluded = choosing.choose(lines, options["notrace"].split())
    # A root that is not itself traced would never be entered. Without words: all below the roots.
    chosen = choosing.choose(lines, words and [*words, *roots.matched], list(excluded.matched))
    if words and not chosen.places:
        raise Refused("none of the functions asked for can be traced on this kernel")
    everything = not words
    buffer.trace(
        tracer,
        chosen=chosen.places,
        excluded=excluded.places if everything else [],
        roots=roots,
        depth=options["depth"],
    )
    return {
        "functions": chosen.names,
        "everything": everything,
        "matched": chosen.matched,
        "roots": roots.names,
    }


def _rehearse(config):
    """Record stacks with perf while the session lets traffic flow; the functions in them."""
    if not config["perf"]:
        raise Refused("preset path needs perf")
    control, told = os.pipe()
    answered, answer = os.pipe()
    command = [config["perf"], "record", "-a", "-g", "-D", "-1", "--control", f"fd:{control},{answer}"]
    command += ["-e", "net:*", "-e", "skb:*", "-o", "rehearsal.data"]
    with Path("rehearsal.log").open("wb") as log:
        perf = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(control, answer)
        )
    os.close(control)
    os.close(answer)
    try:
        os.write(told, b"enable\n")
        if not os.read(answered, 100):  # the end of file of a perf that ended
            raise Refused(
                "perf: " + Path("rehearsal.log").read_text(errors="replace").strip().rpartition("\n")[2]
            )
        say("swarmscope armed")
        with Path("rehearsal").open("rb", buffering=0) as fifo:
            _wait([sys.stdin, fifo])
    finally:
        perf.send_signal(signal.SIGINT)
        perf.wait()
    script = [config["perf"], "script", "-F", "ip,sym", "-i", "rehearsal.data"]
    text = subprocess.run(
        script, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ).stdout
    found = choosing.of_stacks(text.decode(errors="replace"))
    if not found:
        raise Refused("no packet passed in the rehearsal: preset path knows no functions")
    return found


def _wait(streams):
    """Until one of the streams says something; raises ``Stop`` at the end of stdin."""
    ready, _, _ = select.select(streams, [], [])
    if sys.stdin in ready:
        raise Stop
