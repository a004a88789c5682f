"""Records a function graph, and leaves it as the kernel's own text and as the pages of its ring buffer."""

import contextlib
import json
import os
import shutil
import sys
from pathlib import Path

import arming

PAGES = Path("pages")


def save(buffer, about, config):
    """The text first: reading ``trace`` takes nothing out of the buffer, reading pages empties it."""
    with (buffer.path / "trace").open("rb") as source, Path("graph.txt").open("wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
    PAGES.mkdir()
    for cpu in (buffer.path / "per_cpu").iterdir():
        _save_pages(cpu / "trace_pipe_raw", PAGES / (cpu.name + ".raw"))
    for name in ("header_page", "header_event"):
        _copy(buffer.root / "events" / name, PAGES / name)
    recorded = [
        "ftrace/" + entry.name for entry in (buffer.root / "events/ftrace").iterdir() if entry.is_dir()
    ]
    recorded += [event.replace(":", "/") for event in config["options"]["events"].split()]
    for event in recorded:
        _copy(buffer.root / "events" / event / "format", PAGES / "formats" / event)
    _copy(buffer.root / "printk_formats", PAGES / "printk_formats")
    _save_symbols()
    _save_tasks(buffer)
    chosen = about.pop("functions", [])
    (PAGES / "functions").write_text("".join(name + "\n" for name in chosen), encoding="utf-8")
    about["count"] = len(chosen)
    about["kernel"] = os.uname().release
    about["options_of_tracefs"] = {
        entry.name: entry.read_text().strip() for entry in sorted((buffer.path / "options").iterdir())
    }
    for name in ("trace_clock", "buffer_size_kb", "tracing_cpumask"):
        about[name] = (buffer.path / name).read_text().strip()
    for name in ("max_graph_depth", "set_graph_function", "set_graph_notrace"):
        about[name] = (buffer.root / name).read_text().strip()
    (PAGES / "options.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def _save_pages(source, target):
    """Whole pages as the ring buffer has them: each read takes one out."""
    fd = os.open(source, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with target.open("wb") as file, contextlib.suppress(BlockingIOError):
            while True:
                page = os.read(fd, 1 << 16)
                if not page:
                    break
                file.write(page)
    finally:
        os.close(fd)


def _copy(source, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(source.read_bytes())


def _save_symbols():
    """Addresses of functions as this boot has them; a line as in /proc/kallsyms."""
    with Path("/proc/kallsyms").open("rb") as source, (PAGES / "kallsyms").open("wb") as target:
        target.writelines(line for line in source if line.split(b" ", 2)[1] in b"tTwW")


def _save_tasks(buffer):
    """``pid comm``: what the kernel remembers of the last tasks, and all that live."""
    names = {}
    for comm in Path("/proc").glob("[0-9]*/task/*/comm"):
        with contextlib.suppress(OSError):
            names[comm.parent.name] = comm.read_text(encoding="utf-8", errors="replace").rstrip("\n")
    for line in (buffer.root / "saved_cmdlines").read_text(encoding="utf-8", errors="replace").splitlines():
        pid, _, name = line.partition(" ")
        names[pid] = name
    text = "".join("{} {}\n".format(*item) for item in sorted(names.items(), key=lambda item: int(item[0])))
    (PAGES / "saved_cmdlines").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(arming.main(save))
