"""Every collector brings a small real recording, and what it decodes to.

``RENEW_SAMPLES=1 pytest tests/unit/test_collector_samples.py`` writes ``decoded.json`` anew from the samples.
"""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path
from typing import Any

import pytest

from swarmscope import collectors
from swarmscope.formats import FORMATS
from swarmscope.places import shipped
from swarmscope.trace import formats, schema
from swarmscope.trace.reading import beside

FOLDERS = sorted(path.parent for path in shipped("collectors").glob("*/collector.yml"))
FIRST = 2
"""So many rows of each table are written out."""
LARGEST = 20_000


def decoded(collector: collectors.Collector, file: str, format_name: str) -> formats.Decoded:
    """A sample, decoded as one from host n1; stamps stay on the clock they were taken with."""
    path = collector.folder / "sample" / file.rstrip("/")
    arm = "baseline" if collector.per_arm else ""
    source = formats.Source(
        file, host="n1", kernel="k", collector=collector.name, arm=arm, kallsyms=beside(path)
    )
    return formats.decode_path(format_name, path, source)


def summary(collector: collectors.Collector) -> dict[str, Any]:
    """What ``decoded.json`` holds: output -> table -> number of rows, and the first ones."""
    return {
        output["file"]: {
            name: {"rows": table.height, "first": table.head(FIRST).to_dicts()}
            for name, table in decoded(collector, output["file"], output["format"]).tables.items()
            if table.height
        }
        for output in collector.outputs
        if not FORMATS[output["format"]].aside and not output["optional"]
    }


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_sample_of_each_collector_decodes_to_what_it_says(folder: Path) -> None:
    collector = collectors.load(folder)
    sample = folder / "sample"
    assert sample.is_dir(), f"{folder.name} has no sample/: docs/collectors.md says what belongs there"
    wanted = {output["file"].rstrip("/") for output in collector.outputs if not output["optional"]}
    assert {path.name for path in sample.iterdir()} - {"decoded.json"} == wanted
    found = summary(collector)
    if os.environ.get("RENEW_SAMPLES"):
        (sample / "decoded.json").write_text(json.dumps(found, indent=1) + "\n")
        pytest.skip("decoded.json was written, not compared")
    assert found == json.loads((sample / "decoded.json").read_text())


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_sample_is_small_whole_and_holds_more_than_counters_of_loss(folder: Path) -> None:
    collector = collectors.load(folder)
    rows = 0
    for output in (output for output in collector.outputs if not output["optional"]):
        path = folder / "sample" / output["file"]
        # A folder as it travels: sub-buffers of a trace are mostly padding.
        inside = [zlib.compress(file.read_bytes()) for file in path.rglob("*") if file.is_file()]
        size = sum(map(len, inside)) if path.is_dir() else path.stat().st_size
        assert 0 < size < LARGEST, output["file"]
        if FORMATS[output["format"]].aside:
            continue
        tables = decoded(collector, output["file"], output["format"]).tables
        for name, table in tables.items():
            assert dict(table.schema) == dict(schema.TABLES[name]), (output["file"], name)
        assert "damaged" not in tables["losses"]["what"].to_list(), tables["losses"]
        rows += sum(table.height for name, table in tables.items() if name != "losses")
    assert rows > 0
