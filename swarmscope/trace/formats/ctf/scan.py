"""The compiled kernel that executes a ``ctf.program`` over the bytes of one stream file.

``scan`` goes on from ``state`` until the file ends, a buffer is full or something is wrong, and says which;
the caller empties or enlarges the buffer, or sets ``state`` to the next packet, and calls again. An event's
row exists once the whole event was read. Every read is checked against the end of the packet's content; what
a packet may cost is bounded by its size (``FUEL``), so no loop of empty elements goes on for ever.

One function, as calls would cost more than what they do. Numba's cache does not see a change of the modules
imported here: touch this file with them.
"""

from __future__ import annotations

import numba
import numpy as np

from swarmscope.trace.formats.ctf import bits as ctf_bits
from swarmscope.trace.formats.ctf import instructions as op
from swarmscope.trace.formats.ctf.bits import BYTES, LIST, TABLE, WORDS

DEPTH = 40
MAX_SLOTS = 63
FUEL = 8
FIRST_FUEL = 1 << 16

# The routine that runs.
NOTHING, PACKET_HEADER, PACKET_CONTEXT, EVENT_HEADER, EVENT = range(5)


@numba.njit(
    numba.types.int64(
        *(TABLE, TABLE, BYTES, TABLE, LIST, LIST, LIST, numba.types.int64),
        *(BYTES, WORDS, LIST, LIST, TABLE, TABLE, TABLE, TABLE, LIST, TABLE),
    ),
    cache=True,
    nogil=True,
)
def scan(  # type: ignore[no-untyped-def]
    code,
    ranges,
    uuid,
    streams,
    ids,
    dense,
    routines,
    header,
    data,
    view,
    registers,
    state,
    rows,
    slots,
    packets,
    strings,
    table,
    log,
):
    """Read events into ``rows`` and ``slots`` from where ``state`` says; see above for what it returns."""
    loops = np.empty(DEPTH, np.int64)
    recent = np.full(MAX_SLOTS, -1)
    clock = registers[op.R_CLOCK]
    fuel = registers[op.R_FUEL]
    logged = registers[op.R_LOG]
    row = registers[op.R_ROW]
    base = state[op.AT_PACKET]
    left = (data.size - base) * 8
    at = state[op.AT]
    end = state[op.CONTENT]
    stream = state[op.STREAM]
    size = state[op.SIZE]
    first = streams[stream, op.S_FIRST]
    last = streams[stream, op.S_LAST]
    has = streams[stream, op.S_HAS]
    cpu = registers[op.R_CPU] if has >> op.R_CPU & 1 else -1
    start, start_clock, start_logged, present, found = at, clock, logged, 0, first
    between = at >= 0
    running = EVENT if between else NOTHING
    wrong = 0
    while True:
        # The routine before has ended, or none ran: choose the next.
        if running == PACKET_HEADER:
            if has >> op.R_MAGIC & 1 and registers[op.R_MAGIC] & 0xFFFFFFFF != op.STREAM_MAGIC:
                at = 0
                wrong = op.NO_MAGIC
                break
            stream = 0
            if has >> op.R_STREAM & 1:
                while stream < streams.shape[0] and streams[stream, op.S_ID] != registers[op.R_STREAM]:
                    stream += 1
            if stream >= streams.shape[0]:
                stream = 0
                wrong = op.NO_STREAM
                break
            has = streams[stream, op.S_HAS]
            running = PACKET_CONTEXT
            pc = streams[stream, op.S_CONTEXT]
        elif running == PACKET_CONTEXT:
            content = left
            size = left
            if has >> op.R_PACKET & 1:
                size = registers[op.R_PACKET]
                content = size
            if has >> op.R_CONTENT & 1:
                content = registers[op.R_CONTENT]
                if not has >> op.R_PACKET & 1:
                    size = (content + 7) & -8
            if size <= 0 or size & 7 or content > size or content < at or size > 1 << 56:
                size = 0
                wrong = op.BAD_SIZE
                break
            if has >> op.R_BEGIN & 1:
                begin = registers[op.R_BEGIN]
                if begin < 0 or (has >> op.R_END & 1 and registers[op.R_END] < begin):
                    wrong = op.BAD_TIMES
                    break
                clock = begin
            number = state[op.PACKETS]
            cpu = registers[op.R_CPU] if has >> op.R_CPU & 1 else -1
            packets[number, op.P_OFFSET] = base
            packets[number, op.P_STREAM] = stream
            packets[number, op.P_CPU] = cpu
            packets[number, op.P_DISCARDED] = registers[op.R_DISCARDED]
            packets[number, op.P_SEQUENCE] = registers[op.R_SEQUENCE]
            state[op.PACKETS] = number + 1
            first = streams[stream, op.S_FIRST]
            last = streams[stream, op.S_LAST]
            end = min(content, left)
            fuel = FIRST_FUEL + FUEL * end
            running = EVENT
            between = True
        elif running == EVENT_HEADER:
            wanted = registers[op.R_ID]
            found = -1
            if streams[stream, op.S_IDS] > 0:
                if 0 <= wanted < streams[stream, op.S_IDS]:
                    found = dense[streams[stream, op.S_TABLE] + wanted]
            else:
                found = ctf_bits.searched(ids, first, last, wanted)
            if found < 0 or clock < start_clock:
                wrong = op.BACKWARD if clock < start_clock else op.NO_EVENT
                at = start
                break
            running = EVENT
            pc = routines[found]
        elif running == EVENT and not between:
            if at == start:
                wrong = op.TOO_LONG
                break
            rows[row, op.ROW_CLASS] = found
            rows[row, op.ROW_CLOCK] = clock
            rows[row, op.ROW_CPU] = cpu
            rows[row, op.ROW_PRESENT] = present
            rows[row, op.ROW_LOG] = start_logged
            row += 1
            between = True
        if between:
            start = at
            start_clock = clock
            start_logged = logged
            if at >= end:
                if size > left:
                    at = left
                    wrong = op.CUT
                    break
                base += size >> 3
                left -= size
                running = NOTHING
                between = False
            elif row >= rows.shape[0]:
                wrong = op.ROWS_FULL
                break
            else:
                present = 0
                registers[op.R_ID] = ids[first] if first < last else 0
                running = EVENT_HEADER
                pc = streams[stream, op.S_HEADER]
                between = False
        if running == NOTHING:
            size = 0
            at = -1
            if left <= 0 or state[op.PACKETS] >= packets.shape[0]:
                wrong = op.DONE if left <= 0 else op.PACKETS_FULL
                break
            at = 0
            end = left
            fuel = FIRST_FUEL
            has = streams[0, op.S_HAS]
            running = PACKET_HEADER
            pc = header

        origin = base * 8
        depth = 0
        while True:
            what = code[pc, 0]
            fuel -= 1
            if fuel < 0:
                wrong = op.TOO_LONG
                break
            align = code[pc, op.LEAD_ALIGN]
            at = ((at + align - 1) & -align) + code[pc, op.LEAD_SIZE]
            if at > end:
                wrong = op.BEYOND
                break
            if what == op.INT:
                bits = code[pc, 1]
                align = code[pc, 2]
                at = (at + align - 1) & -align
                if at + bits > end:
                    wrong = op.BEYOND
                    break
                place = origin + at
                word = np.uint64(place >> 3)
                shift = place & 7
                if word < np.uint64(view.size) and shift + bits <= 64:
                    value = ctf_bits.within(view[word], shift, bits, code[pc, 3] != 0, code[pc, 4] != 0)
                else:
                    value = ctf_bits.load(data, place, bits, code[pc, 3] != 0, code[pc, 4] != 0)
                at += bits
                if code[pc, 5] >= 0:
                    registers[code[pc, 5]] = value
                slot = code[pc, 6]
                if slot >= 0:
                    slots[row, slot] = value
                    present |= 1 << slot
                elif slot == op.LOG:
                    if logged >= log.shape[0]:
                        wrong = op.LOG_FULL
                        break
                    log[logged, 0] = value
                    logged += 1
                role = code[pc, 7]
                if role == op.R_CLOCK:
                    if bits < 64:
                        # Only the low bits are recorded: they wrap around at most once between two events.
                        low = (1 << bits) - 1
                        if (value & low) < (clock & low):
                            clock += low + 1
                        value = (clock & ~low) | (value & low)
                    clock = value
                elif role > 0:
                    registers[role] = value
                pc += 1
            elif what == op.SKIP:
                pc += 1
            elif what == op.STRING or what == op.TEXT:
                at = (at + 7) & -8
                begins = base + (at >> 3)
                room = (end - at) >> 3
                slot = code[pc, 1]
                if what == op.TEXT:
                    slot = code[pc, 3]
                    count = code[pc, 1] if code[pc, 2] < 0 else registers[code[pc, 2]]
                    if count < 0 or count > room:
                        wrong = op.BEYOND
                        break
                    room = count
                # Most often it is the text of the event before.
                number = recent[slot] if slot >= 0 else np.int64(-1)
                length = strings[number, 1] if number >= 0 else np.int64(0)
                if number >= 0 and (
                    length > room
                    or (length < room and data[np.uint64(begins + length)] != 0)
                    or not ctf_bits.same(data, begins, strings[number, 0], length)
                ):
                    number = np.int64(-1)
                if number < 0:
                    length = 0
                    while length < room and data[np.uint64(begins + length)] != 0:
                        length += 1
                if what == op.TEXT:
                    at += 8 * room
                elif length >= room:
                    wrong = op.BEYOND
                    break
                else:
                    at += 8 * length + 8
                if slot >= 0:
                    if number < 0:
                        number = ctf_bits.intern(data, begins, length, strings, table, registers)
                        if number < 0:
                            wrong = op.STRINGS_FULL
                            break
                        recent[slot] = number
                    slots[row, slot] = number
                    present |= 1 << slot
                elif slot == op.LOG:
                    if logged >= log.shape[0]:
                        wrong = op.LOG_FULL
                        break
                    log[logged, 0] = begins
                    log[logged, 1] = length
                    logged += 1
                pc += 1
            elif what == op.SWITCH:
                value = registers[code[pc, 1]]
                chosen = -1
                for i in range(code[pc, 3], code[pc, 4]):
                    if code[pc, 2] != 0:
                        inside = np.uint64(ranges[i, 0]) <= np.uint64(value) <= np.uint64(ranges[i, 1])
                    else:
                        inside = ranges[i, 0] <= value <= ranges[i, 1]
                    if inside:
                        chosen = i
                        break
                if chosen < 0:
                    wrong = op.NO_OPTION
                    break
                if code[pc, 5] == op.LOG:
                    if logged >= log.shape[0]:
                        wrong = op.LOG_FULL
                        break
                    log[logged, 0] = chosen
                    logged += 1
                pc = ranges[chosen, 2]
            elif what == op.JUMP:
                pc = code[pc, 1]
            elif what == op.PACK:
                count = code[pc, 1]
                at = (at + 7) & -8
                if at + 8 * count > end:
                    wrong = op.BEYOND
                    break
                slots[row, code[pc, 2]] = ctf_bits.load(data, origin + at, 8 * count, False, True)
                present |= 1 << code[pc, 2]
                at += 8 * count
                pc += 1
            elif what == op.SPAN:
                count = registers[code[pc, 4]]
                stride = code[pc, 1]
                if count != 0:
                    if count < 0 or (stride > 0 and count - 1 > (end - at) // stride):
                        wrong = op.BEYOND
                        break
                    at += (count - 1) * stride + code[pc, 2]
                    if at > end:
                        wrong = op.BEYOND
                        break
                pc += 1
            elif what == op.LOOP:
                count = code[pc, 1] if code[pc, 2] < 0 else registers[code[pc, 2]]
                if count < 0 or depth >= DEPTH:
                    wrong = op.BEYOND if count < 0 else op.TOO_DEEP
                    break
                if code[pc, 4] == op.LOG:
                    if logged >= log.shape[0]:
                        wrong = op.LOG_FULL
                        break
                    log[logged, 0] = count
                    logged += 1
                if count == 0:
                    pc = code[pc, 3]
                else:
                    loops[depth] = count
                    depth += 1
                    pc += 1
            elif what == op.NEXT:
                loops[depth - 1] -= 1
                if loops[depth - 1] > 0:
                    pc = code[pc, 1]
                else:
                    depth -= 1
                    pc += 1
            elif what == op.MATCH:
                at = (at + 7) & -8
                if at + 128 > end:
                    wrong = op.BEYOND
                    break
                if not ctf_bits.matches(data, base + (at >> 3), uuid):
                    wrong = op.NO_UUID
                    break
                at += 128
                pc += 1
            else:
                break
        if wrong:
            break

    state[op.DAMAGE] = at
    if running == EVENT or running == EVENT_HEADER:  # noqa: SIM109
        # What was begun of an event is forgotten.
        at = start
        clock = start_clock
        logged = start_logged
        if wrong == op.BEYOND and size > left:
            wrong = op.CUT
    else:
        at = -1
        if wrong == op.BEYOND:
            wrong = op.CUT
    registers[op.R_CLOCK] = clock
    registers[op.R_FUEL] = fuel
    registers[op.R_LOG] = logged
    registers[op.R_ROW] = row
    state[op.AT_PACKET] = base
    state[op.AT] = at
    state[op.CONTENT] = end
    state[op.STREAM] = stream
    state[op.SIZE] = size
    return wrong
