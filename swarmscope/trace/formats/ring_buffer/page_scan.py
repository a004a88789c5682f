"""The loop over the kernel's ring-buffer pages: what each record holds, and when it was written.

A page begins with a time stamp and ``commit``: how many bytes of records follow (27 bits), a flag that events
were lost before it (bit 31) and one that their number stands behind the records (bit 30). Records are words
of 32 bits: 5 bits of type or length, 27 of time since the record before. Lengths 1 to 28 count words; 0 says
that the next word is the length in bytes, itself included; 29 is padding (without a time: nothing follows),
30 adds the next word as the upper part of a time, 31 is an absolute time of 59 bits. Source:
kernel/trace/ring_buffer.c.

Scope: one pass over some pages of one CPU, no page needs the one before it. Every length is held against what
is there: a record that does not fit costs the rest of its page. Where records are missing, lost by the kernel
or damaged, stands a gap. Numbers of texts, stacks and functions are those of this pass.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit

from swarmscope.trace.formats.raw_bytes import load1
from swarmscope.trace.formats.ring_buffer.kinds import (
    ENTERED,
    ENTRY,
    EVENT,
    EXIT,
    FUNCTION,
    GAP,
    KIND,
    LEFT,
    LENGTH,
    PROTO,
    RETVAL,
    STACK,
    TEXT,
    UNKNOWN,
    USER_STACK,
    WIDE,
    WIDTH,
)
from swarmscope.trace.formats.ring_buffer.page_values import (
    ADDRESSES,
    BEGIN,
    HASH,
    ROOM,
    SIZE,
    STACKS,
    TABLES,
    TEXTS,
    address_hash,
    extent,
    field,
    number,
    slot_of_address,
    slot_of_range,
    text_hash,
    word,
    words_hash,
)

SHORT_PAGE: Final = 0
BAD_COMMIT: Final = 1
BAD_RECORD: Final = 2
CUT_PAGE: Final = 3
REASONS: Final = (
    "the file ends within a page's header",
    "a page says it holds more than a page",
    "a record does not fit into its page: the rest of the page is left out",
    "the file ends within a page",
)

COMMIT: Final = (1 << 27) - 1
MISSED: Final = 1 << 31
STORED: Final = 1 << 30
LARGEST: Final = 999_999_999
"""As in ``event_format``: a larger number is no length or protocol."""


@njit(cache=True, nogil=True, forceinline=True)
def _small(value: int, known: bool) -> Any:
    """A length or a protocol: -1 where there is none."""
    return np.int32(value) if known and 0 <= value <= LARGEST else np.int32(-1)


@njit(cache=True, nogil=True)
def scan(
    data: Any,
    begin: int,
    end: int,
    page: Any,
    common: Any,
    big: bool,
    code_of: Any,
    places: Any,
    row: int,
    fill: bool,
    ts: Any,
    pid: Any,
    kind: Any,
    flags: Any,
    code: Any,
    wide: Any,
    length: Any,
    proto: Any,
    value: Any,
    known: Any,
    retval: Any,
    where: Any,
) -> Any:
    """Read the pages in ``data[begin:end]`` into rows from ``row`` on.

    ``page``: where a page's stamp, commit and data begin, the size of commit and of a page. ``common``: where
    a record has its event (2 bytes), flags (1) and pid (4), and how long it is at least. ``code_of`` and
    ``places`` are a plan's. Without ``fill`` rows are only counted. Of a row: ``wide`` is an skb's address or
    a call's duration (-1: not measured), ``length`` a depth, too, or the number of a function's caller, of an
    unknown event its own; ``value`` the number of a device's name, a stack or a function (-1: none);
    ``known`` says whether there is an address, or a value returned. ``retval`` and ``where`` (first byte,
    size) may be empty.

    Returned: the row behind the last; where the pages end that were read: where the tables of values were
    full, that is before ``end``; notes, three numbers each: offset, number of lost events (-1: unknown) or
    -2, which damage of ``REASONS``; the tables' entries, and how many they are.
    """
    stamp_at, commit_at, data_at, long_size, page_size = page[0], page[1], page[2], page[3], page[4]
    type_at, flags_at, pid_at, least = common[0], common[1], common[2], common[3]
    pages = (end - begin + page_size - 1) // page_size
    notes = np.empty(6 * pages if fill else 0, np.int64)
    noted = 0
    most = page_size // 12  # values in one page: a record with any has three words, one with two has seven
    room = np.int64(ROOM)
    while room < 2 * most:
        room *= 2
    mask = 2 * room - 1
    slots = np.full((TABLES, 2 * room if fill else 1), -1, np.int32)
    entries = np.empty((TABLES, room if fill else 1, 3), np.int64)
    count = np.zeros(TABLES, np.int64)
    # Addresses, as raw_bytes wants them: of the pages, the plan's rows and the tables of values.
    base, plan = np.int64(data.ctypes.data), np.int64(places.ctypes.data)
    slots_at, entries_at = np.int64(slots.ctypes.data), np.int64(entries.ctypes.data)
    now = np.int64(0)
    msb = np.int64(-1) << 59
    for sheet in range(pages):
        at = begin + sheet * page_size
        if max(count[TEXTS], count[STACKS], count[ADDRESSES]) + most > room:
            end = at
            break
        damage = -1
        spot = at
        if at + data_at > end:
            damage = SHORT_PAGE
        else:
            now = number(base, at + stamp_at, 8, False, big)
            commit = number(base, at + commit_at, long_size, False, big) & 0xFFFFFFFF
            filled = commit & COMMIT
            cursor = at + data_at
            limit = cursor + filled
            if filled > page_size - data_at:
                damage = BAD_COMMIT
            else:
                if commit & MISSED:
                    if fill:
                        lost = np.int64(-1)
                        if commit & STORED and limit + long_size <= min(at + page_size, end):
                            lost = number(base, limit, long_size, False, big) & ((1 << 62) - 1)
                        notes[noted], notes[noted + 1], notes[noted + 2] = at, lost, -1
                        noted += 3
                        ts[row], pid[row], kind[row], flags[row], code[row] = now, -1, GAP, 0, 0
                    row += 1
                if limit > end:
                    damage, spot, limit = CUT_PAGE, end, end
                while cursor + 4 <= limit:
                    head = word(base, cursor, big)
                    sort = head >> 27 if big else head & 31
                    delta = head & ((1 << 27) - 1) if big else head >> 5
                    if sort == 0 or sort > 28:
                        if sort == 29 and delta == 0:
                            cursor = limit
                            break
                        if cursor + 8 > limit:
                            break
                        further = word(base, cursor + 4, big)
                        if sort == 30:
                            now += delta + (further << 27)
                            cursor += 8
                            continue
                        if sort == 31:
                            absolute = delta + (further << 27)
                            if now & msb:
                                absolute |= now & msb
                                if np.uint64(absolute) < np.uint64(now):
                                    absolute += np.int64(1) << 59
                            now = absolute
                            cursor += 8
                            continue
                        if further < 4 or cursor + 4 + further > limit:
                            break
                        if sort == 29:
                            now += delta
                            cursor += 4 + further
                            continue
                        body = cursor + 8
                        size = ((further - 4) + 3) & ~3
                    else:
                        body = cursor + 4
                        size = sort * 4
                    if body + size > limit or size < least:
                        break
                    now += delta
                    cursor = body + size
                    if not fill:
                        row += 1
                        continue
                    event = number(base, body + type_at, 2, False, big)
                    which = code_of[event]
                    place = plan + 4 * WIDTH * np.int64(which)
                    what = places[which, KIND]
                    ts[row], kind[row], code[row] = now, what, which
                    flags[row] = load1(base, body + flags_at)
                    pid[row] = np.int32(word(base, body + pid_at, big))
                    if where.shape[0]:
                        where[row, 0], where[row, 1] = body, size
                    first, has = field(base, body, size, place, WIDE, big)
                    second, had = field(base, body, size, place, LENGTH, big)
                    table, slot = -1, np.int64(0)
                    begun, long, value_hash = np.int64(0), np.int64(0), np.int64(0)
                    value[row] = -1
                    if what == EVENT:
                        wide[row], known[row] = first, has
                        length[row] = _small(second, had)
                        third, had = field(base, body, size, place, PROTO, big)
                        proto[row] = _small(third, had)
                        if places[which, TEXT] >= 0:
                            begun, tail = extent(base, body, cursor, place, big)
                            value_hash, long = text_hash(base, begun, tail)
                            if long:
                                table = TEXTS
                    elif what == STACK:
                        begun = min(body + np.int64(places[which, TEXT]), cursor)
                        long = min(max(first, 0), (cursor - begun) // long_size) * long_size
                        if long:
                            value_hash = words_hash(base, begun, begun + long)
                            table = STACKS
                    elif what in (ENTRY, EXIT, FUNCTION):
                        table, begun, value_hash = ADDRESSES, first, address_hash(first)
                        wide[row] = -1
                        length[row] = np.int32(second) if had else -1
                        if what == EXIT:
                            entered, had = field(base, body, size, place, ENTERED, big)
                            left, has = field(base, body, size, place, LEFT, big)
                            if had and has and entered > 0 and left >= entered:
                                wide[row] = left - entered
                            if retval.size:
                                retval[row], known[row] = field(base, body, size, place, RETVAL, big)
                    elif what == UNKNOWN:
                        length[row] = event
                    caller = False
                    while table >= 0:
                        codes, known_at = slots_at + 4 * table * (mask + 1), entries_at + 24 * table * room
                        if table == ADDRESSES:
                            slot = slot_of_address(begun, value_hash, codes, known_at, mask)
                        else:
                            slot = slot_of_range(base, begun, long, value_hash, codes, known_at, mask)
                        found = slots[table, slot]
                        if found < 0:
                            found = np.int32(count[table])
                            slots[table, slot] = found
                            entries[table, found, BEGIN] = begun
                            entries[table, found, SIZE] = long
                            entries[table, found, HASH] = value_hash
                            count[table] += 1
                        if caller:
                            length[row] = found
                            break
                        value[row] = found
                        if what != FUNCTION:
                            break
                        caller = True
                        begun, value_hash = second, address_hash(second)
                    row += 1
                if cursor < limit and damage < 0:
                    damage, spot = BAD_RECORD, cursor
        if damage >= 0:
            if fill:
                notes[noted], notes[noted + 1], notes[noted + 2] = spot, -2, damage
                noted += 3
                ts[row], pid[row], kind[row], flags[row], code[row] = now, -1, GAP, 0, 0
            row += 1
    return row, end, notes[:noted], entries, count


@njit(cache=True, nogil=True)
def owners(kind: Any, pid: Any, flags: Any, value: Any, begin: int, end: int, stack: Any) -> None:
    """Give each row of one CPU the number of its stack, in ``stack``.

    A stack follows its record on the same CPU, in the same task and at the same level (normal, soft
    interrupt, hard interrupt, NMI: bits 4, 3 and 6 of the flags); what an interrupt writes in between has
    another level.
    """
    last = np.full(4, -1, np.int64)
    for row in range(begin, end):
        what = kind[row]
        if what == USER_STACK:
            continue
        if what == GAP:
            last[:] = -1
            continue
        level = 0
        if flags[row] & 0x40:
            level = 3
        elif flags[row] & 0x08:
            level = 2
        elif flags[row] & 0x10:
            level = 1
        if what != STACK:
            last[level] = row
        else:
            before = last[level]
            if before >= 0 and pid[before] == pid[row]:
                stack[before] = value[row]
            last[level] = -1
