r"""Text of ``perf trace``: events, and calls of the system if it was asked for them.

    16398381.313 ping/30806 net:net_dev_queue(skbaddr: 0xffff88816ab2cc00, len: 98, name: "a0")
         0.158 ( 0.027 ms): ping/13217 sendto(fd: 3, buff: 0x55ad, len: 64)              = 64
         0.039 (         ): ping/13286 sched_yield()                                      ...
         0.039 ( 0.174 ms): ping/13286  ... [continued]: sched_yield())                   = 0
    LOST 12 events!

Stamps are milliseconds with three digits, rounded: since the first event or, with ``-T``, on perf's clock.
A file whose first stamp is below a second is taken for the former, which ``losses`` says: its stamps
compare with nothing. Of the latter, lines ``# clock {...}`` that the collector adds lead to
CLOCK_MONOTONIC. A system call is a row of ``calls``, as ``sys_NAME`` with its time and what it returned (an
error's name as the kernel's number); the line where another one interrupted it says nothing that its
continuation does not. Calls that had begun before the recording, or go on at its end, are counted in
``losses``.

Scope: with or without comm and thread id (a single thread), with call chains, fields as perf or
libtraceevent prints them. The CPU is not printed; a comm is cut to 14 bytes. Limits: the tables of ``-s``
at the end are passed over. (``builtin-trace.c``: trace__fprintf_entry_head, trace__event_handler,
trace__sys_exit.)
"""

from __future__ import annotations

import errno
import re
from typing import Any, BinaryIO, Final

import numpy as np
import polars as pl

from swarmscope.trace.formats.base import (
    Decoded,
    LossLog,
    Source,
    StackTable,
    call_table,
    event_table,
    wrong_format,
)
from swarmscope.trace.formats.fields import HASHED_BELOW
from swarmscope.trace.formats.text.names import whole_lines

EXPECTED: Final = "a line like '  0.000 ping/30806 net:net_dev_queue(skbaddr: 0xffff..., len: 98, ...)'"
ROUNDING: Final = 1000
GIVE_UP: Final = 1 << 20
"""Bytes without a row after which the file is called none of this format."""
RELATIVE_BELOW: Final = 1_000_000_000
LONGEST_CALL: Final = 1 << 62
_LINE: Final = (
    r"^ *(?:(?P<ms>[0-9]{1,12}\.[0-9]{3})|\?) (?:\( *(?:(?P<dur>[0-9]{1,14}\.[0-9]{3}) ms)?\): )?"
    r"(?:(?P<comm>.{0,15}?)/(?P<tid>-?[0-9]{1,9}) )?(?:"
    r"(?P<event>[A-Za-z_][A-Za-z0-9_-]*:[A-Za-z0-9_-]+)\((?P<text>.*)\)|"
    r"(?P<continued> *\.\.\. \[continued\]: )?(?P<call>[a-z_][a-z0-9_]*)\("
    r"(?:.*\) *= (?P<ret>0x[0-9a-f]{1,16}|-?[0-9]+)?(?: ?(?P<error>E[A-Z0-9]+))?.*|.*?(?P<open>\.\.\.)))$"
)
_LIKE = re.compile(_LINE.encode())
_CHAIN: Final = r"^ {39}(\S.*)$"
_LOST: Final = r"LOST ([0-9]{1,18}) events!"
_CLOCK = re.compile(
    r'# clock \{"monotonic_ns": (\d{1,18}), "perf_less_monotonic_ns": (-?\d{1,18}), "error_ns": (\d{1,18})\}$'
)
_SUMMARY: Final = r"^ Summary of events:"
_DEV: Final = r'(?:^|[ ,])(?:dev=|name: ")([^" ]+)'
_SKB: Final = r"(?:^|[ ,])skbaddr(?:=|: )(?:0x)?([0-9a-f]{1,16})(?:[ ,]|$)"
_LEN: Final = r"(?:^|[ ,])len(?:=|: )([0-9]{1,9})(?:[ ,]|$)"
_PROTO: Final = r"(?:^|[ ,])protocol(?:=|: )(0x[0-9a-f]{1,7}|[0-9]{1,9})(?:[ ,]|$)"
_OBJECT = re.compile(r"\(([^()]*)\)$")
_ERRORS: Final = {name: -number for number, name in errno.errorcode.items()}
_SHOWN: Final = 40


def looks_like(head: bytes) -> bool:
    """Whether a file that begins with ``head`` is such a text: nearly all of its lines fit."""
    lines = [line.rstrip(b"\r") for line in head[: head.rfind(b"\n") + 1].split(b"\n") if line.strip()][:200]
    fitting = sum(_LIKE.match(line) is not None for line in lines)
    beside = sum(line.startswith((b" " * 39, b"LOST ")) for line in lines)
    return fitting > 0 and 10 * (fitting + beside) >= 9 * len(lines)


def decode(file: BinaryIO, source: Source) -> Decoded:
    """Events and calls of a ``perf trace`` text; ``TraceFileError`` where no line is one."""
    reader = _Reader(source)
    first = b""
    for offset, piece in whole_lines(file, reader.log):
        first = first or piece[: 2 * _SHOWN]
        whole = piece[: piece.rfind(b"\n") + 1]
        if len(whole) < len(piece):
            reader.log.damage(offset + len(whole), "the file ends within a line")
        if reader.piece(whole, offset) or (not reader.rows and offset > GIVE_UP):
            break
    if not reader.rows:
        if first:
            raise wrong_format(source, 0, expected=EXPECTED, found=first)
        reader.log.damage(0, "the file is empty")
    return reader.decoded()


class _Reader:
    def __init__(self, source: Source) -> None:
        self.source = source
        self.log = LossLog(source)
        self.rows = 0
        self._stacks = StackTable(source.modules)
        self._known: dict[str, int] = {}
        self._clocks: list[tuple[int, int, int]] = []
        """Readings: perf's clock, how far it is before CLOCK_MONOTONIC, and the error of that."""
        self._parts: list[pl.DataFrame] = []

    def piece(self, data: bytes, offset: int) -> bool:
        """Take whole lines; whether the rows end here and a summary follows."""
        if not data:
            return False
        starts = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n"))[:-1] + 1
        lines = pl.DataFrame(
            {
                "line": pl.Series(data[:-1].decode("utf-8", "replace").split("\n")).str.strip_suffix("\r"),
                "at": np.concatenate([[0], starts]) + offset,
            }
        )
        ended = lines["line"].str.contains(_SUMMARY)
        if ended.any():
            lines = lines.head(ended.arg_true()[0])
        found = lines.with_columns(
            pl.col("line").str.extract_groups(_LINE).alias("found"),
            pl.col("line").str.extract(_CHAIN).alias("frame"),
        ).unnest("found")
        row = pl.col("event").is_not_null() | pl.col("call").is_not_null()
        found = found.with_columns(row.alias("row"), row.cast(pl.Int64).cum_sum().alias("number"))
        beside = found.filter(~pl.col("row") & (pl.col("frame").is_null() | (pl.col("number") == 0)))
        for line, at in beside.select("line", "at").rows():
            self._beside(line, at)
        rows = found.filter("row").drop("frame", "row", "line")
        self.rows += rows.height
        chains = (
            found.filter(~pl.col("row") & pl.col("frame").is_not_null() & (pl.col("number") > 0))
            .group_by("number", maintain_order=True)
            .agg(pl.col("frame").str.join("\n"))
        )
        numbers = {text: self._chain(text) for text in chains["frame"].unique(maintain_order=True)}
        chains = chains.select(
            "number", pl.col("frame").replace_strict(numbers, return_dtype=pl.Int32).alias("stack")
        )
        self._parts.append(rows.join(chains, on="number", how="left", maintain_order="left").drop("number"))
        return bool(ended.any())

    def _beside(self, line: str, at: int) -> None:
        if lost := re.search(_LOST, line):
            self.log.add("lost events", int(lost[1]))
        elif clock := _CLOCK.match(line):
            monotonic, ahead, error = (int(number) for number in clock.groups())
            self._clocks.append((monotonic + ahead, ahead, error))
        elif line.strip() and not line.startswith("#"):
            self.log.damage(at, f"not an event: {line[:_SHOWN]!r}")

    def _chain(self, text: str) -> int:
        """The number of a call chain given innermost first; only the object tells a program's frame."""
        if text not in self._known:
            frames = []
            user = False
            for raw in text.split("\n"):
                place = _OBJECT.search(raw)
                user = user or (place is not None and not place[1].startswith(("[", "inlined")))
                frames.append(self._stacks.frame(raw, user=user))
            self._known[text] = self._stacks.stack(tuple(reversed(frames)))
        return self._known[text]

    def decoded(self) -> Decoded:
        """All tables."""
        tables: dict[str, pl.DataFrame] = {}
        if self._parts:
            rows = pl.concat(self._parts).with_columns(
                _nanoseconds("ms").alias("ts"),
                _nanoseconds("dur").alias("dur"),
                pl.col("tid").cast(pl.Int32).alias("pid"),
                pl.col("comm").fill_null(""),
            )
            rows, err = self._on_monotonic(rows)
            tables["events"] = self._events(rows.filter(pl.col("event").is_not_null()), err)
            tables["calls"] = self._calls(rows.filter(pl.col("call").is_not_null()), err)
        return Decoded({**tables, "losses": self.log.frame(), **self._stacks.tables()})

    def _on_monotonic(self, rows: pl.DataFrame) -> tuple[pl.DataFrame, int]:
        """Stamps on CLOCK_MONOTONIC where the file has readings of both clocks, and their error."""
        if self._clocks:
            perf, ahead, errors = (np.array(column) for column in zip(*sorted(self._clocks), strict=True))
            stamps = rows["ts"].fill_null(0).to_numpy()
            known = rows["ts"].is_not_null()
            moved = stamps - np.round(np.interp(stamps, perf, ahead)).astype(np.int64)
            rows = rows.with_columns(ts=pl.Series(moved)).with_columns(pl.when(known).then("ts"))
            return rows, ROUNDING + int(errors.max())
        first = rows["ts"].drop_nulls().head(1).to_list()
        if first and first[0] < RELATIVE_BELOW:
            detail = "stamps count from the first event (perf trace without -T): they compare with nothing"
            self.log.add("relative clock", 1, detail=detail)
        elif first:
            detail = "stamps count perf's own clock, and nothing says what that reads beside CLOCK_MONOTONIC"
            self.log.add("other clock", rows.height, detail=detail)
        return rows, ROUNDING

    def _events(self, rows: pl.DataFrame, err: int) -> pl.DataFrame:
        if unknown := rows["ts"].null_count():
            self.log.add("events without time", unknown)
        text = pl.col("text")
        proto = text.str.extract(_PROTO)
        rows = rows.with_columns(
            pl.col("ts").fill_null(self.source.clock_shift),
            text.str.extract(_DEV).alias("dev"),
            _address(text.str.extract(_SKB)).alias("skb"),
            text.str.extract(_LEN).cast(pl.Int32).alias("len"),
            pl.when(proto.str.starts_with("0x"))
            .then(proto.str.slice(2).str.to_integer(base=16, strict=False))
            .otherwise(proto.str.to_integer(strict=False))
            .cast(pl.Int32)
            .alias("proto"),
        )
        hashed = (pl.col("skb") > 0) & (pl.col("skb") < HASHED_BELOW)
        if count := int(rows.select(hashed.sum()).item()):
            self.log.add("hashed pointers", count, detail="skb addresses cannot be compared")
        rows = rows.with_columns(pl.when(~hashed).then("skb").alias("skb"))
        columns = ("ts", "pid", "comm", "event", "dev", "skb", "len", "proto", "stack")
        return event_table(self.source, err=err, columns={name: rows[name] for name in columns})

    def _calls(self, rows: pl.DataFrame, err: int) -> pl.DataFrame:
        ended = rows.filter(pl.col("open").is_null())
        begun = ended.filter(pl.col("ts").is_not_null() & pl.col("dur").is_not_null())
        endless = ended.filter(pl.col("ts").is_not_null() & pl.col("dur").is_null()).height
        # perf subtracts without a sign: where events were not sorted, an end may come before its beginning.
        whole = begun.filter(pl.col("dur") < LONGEST_CALL)
        if begun.height - whole.height:
            self.log.add("calls that end before they begin", begun.height - whole.height)
        going_on = rows.height - ended.height - begun["continued"].count() + endless
        if unknown := ended["ts"].null_count():
            self.log.add("calls without their beginning", unknown)
        if going_on > 0:
            self.log.add("calls without their end", going_on)
        value = pl.col("ret")
        plain = pl.when(value.str.starts_with("0x")).then(
            _address(value.str.slice(2)).cast(pl.Int64, strict=False)
        )
        columns: dict[str, Any] = whole.select(
            "ts",
            "pid",
            "comm",
            ("sys_" + pl.col("call")).alias("function"),
            pl.lit("").alias("parent"),
            pl.lit(0).alias("depth"),
            "dur",
            pl.col("dur").alias("self"),
            pl.lit(0).alias("folded"),
            pl.col("error")
            .replace_strict(_ERRORS, default=None, return_dtype=pl.Int64)
            .fill_null(plain.otherwise(value.cast(pl.Int64, strict=False)))
            .alias("retval"),
        ).to_dict()
        return call_table(self.source, err=err, columns=columns)


def _nanoseconds(name: str) -> pl.Expr:
    """Milliseconds with three digits behind the point."""
    digits = pl.col(name).str.replace(".", "", literal=True).cast(pl.Int64)
    return pl.when(digits >= LONGEST_CALL // 1000).then(LONGEST_CALL).otherwise(digits * 1000)


def _address(text: pl.Expr) -> pl.Expr:
    """Up to 16 hexadecimal digits as a number."""
    padded = text.str.zfill(16)
    high, low = (
        part.str.to_integer(base=16, strict=False).cast(pl.UInt64)
        for part in (padded.str.slice(0, 8), padded.str.slice(8, 8))
    )
    return high * pl.lit(1 << 32, dtype=pl.UInt64) + low
