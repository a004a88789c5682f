"""The instructions that ``ctf.program`` writes and ``ctf.scan`` executes, their registers and tables.

Numbers alone. An instruction is a row of integers, its operation first; the last two are its lead: it aligns
to LEAD_ALIGN and skips LEAD_SIZE bits before anything else. ``ctf.peephole`` sets them::

    INT    size align signed big-endian register slot role  role: R_CLOCK, another known register, or none
    SKIP   size align                                       bits of no interest; later, only its lead
    STRING slot                                             bytes up to a NUL
    TEXT   bytes register slot                              characters, as many as number or register say
    PACK   bytes slot                                       up to 8 bytes as one number, highest first
    SPAN   stride size align register                       elements of fixed size, register says how many
    LOOP   count register target log                        until NEXT; target: behind it
    NEXT   target
    SWITCH register unsigned first last log                 rows of ``ranges``: low, high, target
    JUMP   target
    MATCH  bytes                                            the trace's UUID must stand here
    END

A register of -1 is none. A slot is a column that was asked for, NONE, or LOG: the value is written
down, in order.
"""

from __future__ import annotations

INT, SKIP, STRING, TEXT, PACK, SPAN, LOOP, NEXT, SWITCH, JUMP, MATCH, END = range(12)
WIDTH = 10
LEAD_ALIGN, LEAD_SIZE = 8, 9
NONE, LOG = -1, -2

# The first registers are the scanner's own, then those that packets and event headers tell.
R_CLOCK, R_FUEL, R_LOG, R_ROW, R_STRINGS = range(5)
R_MAGIC, R_STREAM, R_CONTENT, R_PACKET, R_BEGIN, R_END, R_DISCARDED, R_SEQUENCE, R_CPU, R_ID = range(5, 15)
FIRST_FREE = 15

# A row of the table of streams; S_HAS: a bit for each known register that its packets tell.
# S_TABLE and S_IDS: where in the table of ids those of the stream begin, and how many it has.
S_ID, S_CONTEXT, S_HEADER, S_FIRST, S_LAST, S_HAS, S_TABLE, S_IDS = range(8)
STREAM_WIDTH = 8
MAX_TABLE = 1 << 16
STREAM_MAGIC = 0xC1FC1FC1

# What a scan ends with: the file's end, a full buffer, or what is wrong in the packet.
DONE, ROWS_FULL, PACKETS_FULL, STRINGS_FULL, LOG_FULL = range(5)
BEYOND, NO_OPTION, TOO_LONG, NO_UUID, TOO_DEEP, NO_MAGIC = range(10, 16)
NO_STREAM, BAD_SIZE, BAD_TIMES, NO_EVENT, BACKWARD, CUT = range(16, 22)

# The state of a scan between two calls: byte of the packet, bit in it (-1: before its header), the end of its
# content and its size in bits (0: not known), its stream, packets counted, and the bit where something is
# wrong.
AT_PACKET, AT, CONTENT, SIZE, STREAM, PACKETS, DAMAGE = range(7)
STATE_WIDTH = 7

# A row of events; ROW_LOG: where its values begin in the log; ROW_PRESENT: a bit for each slot that has a
# value.
ROW_CLASS, ROW_CLOCK, ROW_CPU, ROW_PRESENT, ROW_LOG = range(5)
ROW_WIDTH = 5

# A row of packets.
P_OFFSET, P_STREAM, P_CPU, P_DISCARDED, P_SEQUENCE = range(5)
PACKET_WIDTH = 5
