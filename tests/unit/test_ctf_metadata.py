"""TSDL: declarations as tracers write them, and what is left of damaged ones."""

from __future__ import annotations

import pytest
from synthetic_ctf import CONTEXT, EVENTS, Trace, packetised

from swarmscope.trace.formats.ctf import declarations, tsdl
from swarmscope.trace.formats.ctf import program as ctf_program
from swarmscope.trace.formats.ctf.types import (
    Array,
    Enumeration,
    EventClass,
    FieldType,
    Float,
    Integer,
    Metadata,
    Sequence,
    String,
    Struct,
    Variant,
    alignment,
    fixed_size,
)

INT = "integer { size = 32; align = 8; }"


def field_of(declaration: str, before: str = "") -> FieldType:
    found = declarations.parse(f"{before}\nevent {{ id = 1; fields := struct {{ {declaration} }}; }};\n")
    assert found.problems == []
    assert found.events[0].fields is not None
    return found.events[0].fields.fields[-1][1]


def test_integers_have_all_their_attributes() -> None:
    assert field_of(
        "integer { size = 0x10; align = 16; signed = true; byte_order = be; base = hex; encoding = UTF8; "
        "map = clock.monotonic.value; } _x;"
    ) == Integer(16, 16, signed=True, byteorder="big", base=16, text=True, clock="monotonic")


def test_an_integer_of_whole_bytes_is_aligned_to_them_by_itself() -> None:
    assert field_of("integer { size = 24; } _x;") == Integer(24, 8)
    assert field_of("integer { size = 3; } _x;") == Integer(3, 1)


def test_names_of_several_words_and_of_structs_are_found() -> None:
    before = f"typealias {INT} := unsigned  long; struct point {{ unsigned long x; }} align(64);"
    assert field_of("struct point _p;", before) == Struct((("x", Integer(32, 8)),), 64, 2)
    assert field_of("const unsigned long _n;", before) == Integer(32, 8)
    assert field_of("counter _n;", f"{before} typedef unsigned long counter;") == Integer(32, 8)


def test_an_inner_name_hides_an_outer_one() -> None:
    before = "typealias integer { size = 8; } := t;"
    inner = "typealias integer { size = 16; } := t; t _x;"
    assert field_of(f"struct {{ {inner} }} _s; t _y;", before) == Integer(8, 8)
    struct = field_of(f"struct {{ {inner} }} _s;", before)
    assert isinstance(struct, Struct)
    assert struct.fields == (("_x", Integer(16, 8)),)


def test_arrays_of_arrays_are_read_as_in_c() -> None:
    found = field_of(f"{INT} _n; {INT} _x[2][_n];")
    assert found == Array(Sequence(Integer(32, 8), ("_n",)), 2)


def test_enumerations_count_on_and_have_ranges() -> None:
    found = field_of('enum : integer { size = 8; signed = 1; } { A, "b c" = -3, C, D = 5 ... 0x10, E, } _e;')
    assert isinstance(found, Enumeration)
    assert found.labels == (("A", 0, 0), ("b c", -3, -3), ("C", -2, -2), ("D", 5, 16), ("E", 17, 17))


def test_a_variant_may_get_its_tag_where_it_is_used() -> None:
    before = "variant kinds { string a; string b; };"
    found = field_of("variant kinds <some.tag> _v;", before)
    assert isinstance(found, Variant)
    assert found.tag == ("some", "tag")
    assert dict(found.options) == {"a": String(), "b": String()}


def test_floating_point_and_strings() -> None:
    assert field_of("floating_point { exp_dig = 8; mant_dig = 24; align = 32; } _f;") == Float(32, 32)
    assert field_of("string { encoding = UTF8; } _s;") == String()


def test_sizes_and_alignments_follow_the_format() -> None:
    found = field_of(
        "struct { integer { size = 3; align = 1; } a; integer { size = 16; align = 16; } b; "
        "struct { } align(64) c; integer { size = 8; } d[3]; } _s;"
    )
    assert alignment(found) == 64
    assert fixed_size(found) == 64 + 24
    assert fixed_size(field_of("struct { string s; } _s;")) is None


def test_comments_and_escapes_are_understood() -> None:
    found = declarations.parse(r'env { /* a "comment" */ a = "x\"\\\n\x41\101"; // b = 1;' + "\n c = -5; };")
    assert found.env == {"a": 'x"\\\nAA', "c": -5}
    assert found.problems == []


def test_packets_of_metadata_of_either_order_hold_the_same_text() -> None:
    text = Trace(EVENTS, context=CONTEXT).metadata()
    for big in (False, True):
        found, problems = tsdl.unpacked(packetised(text.encode(), big=big))
        assert (found, problems) == (text, [])


def test_a_damaged_declaration_costs_itself() -> None:
    text = (
        EVENTS
        + EVENTS.replace("id = 0", "id = 1").replace("struct", "strukt")
        + EVENTS.replace("id = 0", "id = 2")
    )
    found = declarations.parse(Trace(text).metadata())
    assert [event.id for event in found.events] == [0, 2]
    assert len(found.problems) == 1


def test_a_damaged_packet_of_metadata_costs_itself() -> None:
    data = bytearray(packetised(Trace(EVENTS).metadata().encode()))
    data[1061:1065] = b"\0\0\0\0"
    text, problems = tsdl.unpacked(bytes(data))
    assert [offset for offset, _ in problems] == [1061]
    assert "string _name" in text


def test_metadata_that_ends_within_a_packet_keeps_what_is_there() -> None:
    data = packetised(Trace(EVENTS).metadata().encode())[:1500]
    text, problems = tsdl.unpacked(data)
    assert len(text) == 1024 + 1500 - 1061 - 37
    assert problems == [(1500, "the metadata ends within a packet")]


def built(fields: str) -> ctf_program.Program:
    metadata = declarations.parse(
        Trace(
            f'event {{ name = "e"; id = 1; stream_id = 0; fields := struct {{ {fields} }}; }};\n'
        ).metadata()
    )
    assert metadata.problems == []
    return ctf_program.build(metadata, None)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ("variant <_nothing> { string a; } _v;", "event e: nothing before it is named _nothing"),
        ("string _s; uint8_t _x[_s];", "event e: nothing before it is named _s"),
        ("uint8_t _n; variant <_n> { string a; } _v;", "event e: the tag _n is no enumeration"),
        ("uint8_t _x[_later]; uint8_t _later;", "event e: nothing before it is named _later"),
    ],
)
def test_a_type_that_refers_to_nothing_costs_its_event(fields: str, problem: str) -> None:
    program = built(fields)
    assert program.problems == (problem,)
    assert program.events == ()


@pytest.mark.parametrize(
    "text",
    [
        "struct a { uint8_t x[1000000000000000000000]; };",
        "event { fields := struct { integer { size = 8; } x[999999999999999]; string s; }; };",
        "event { fields := " + "struct { " * 100,
        "typealias integer { size = 65; } := t;",
        "typealias integer { size = 8; align = 3; } := t;",
        "typealias integer { size = 8; byte_order = middle; } := t;",
        "clock { freq = 0; };",
        "trace { major = 1; };",
        'env { a = "',
        "event { id = 99999999999999999999; };",
        "typealias integer { size = 8; } := t; "
        + "".join(f"struct s{n} {{ struct s{n - 1} a; struct s{n - 1} b; }}; " for n in range(1, 40)),
    ],
)
def test_what_cannot_be_is_a_problem_and_nothing_else(text: str) -> None:
    found = declarations.parse(text)
    assert found.problems
    assert found.events == []


def test_structs_that_double_do_not_fill_the_memory() -> None:
    text = f"struct s0 {{ {INT} x; }};\n"
    text += "".join(f"struct s{n} {{ struct s{n - 1} a; struct s{n - 1} b; }};\n" for n in range(1, 60))
    found = declarations.parse(text)
    assert any("a type that can be" in reason for _, reason in found.problems)


def test_an_event_of_an_id_that_is_taken_is_a_problem() -> None:
    metadata = declarations.parse(Trace(EVENTS + EVENTS).metadata())
    program = ctf_program.build(metadata, lambda event: {})
    assert program.problems == ("event net_dev_xmit: a second event of the same id",)


def test_what_nobody_asks_for_is_skipped_at_once() -> None:
    metadata: Metadata = declarations.parse(Trace(EVENTS, context=CONTEXT).metadata())
    some = ctf_program.build(metadata, lambda event: {})
    assert isinstance(some.events[0], EventClass)
    # the string, which skips the context and the three numbers first, and the end
    assert len(some.code) - some.routines[0] == 2
