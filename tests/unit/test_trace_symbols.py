"""Names of kernel functions: what is grouped, what is kept."""

import pytest

from swarmscope.trace import symbols


@pytest.mark.parametrize(
    ("raw", "grouped"),
    [
        ("br_forward", "br_forward"),
        ("do_softirq.part.0", "do_softirq"),
        ("foo.isra.12", "foo"),
        ("foo.constprop.0.isra.3", "foo"),
        ("foo.part.0.cold", "foo"),
        ("foo.llvm.8147203983726158", "foo"),
        ("foo.cold.5", "foo"),
        ("x.coldest", "x.coldest"),
        (".isra.0", ".isra.0"),
    ],
)
def test_compiler_suffixes_are_stripped_for_grouping(raw: str, grouped: str) -> None:
    assert symbols.group(raw) == grouped


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("vxlan_xmit_one.isra.0 [vxlan]", ("vxlan_xmit_one", "vxlan")),
        ("vxlan_xmit+0x12/0x80 [vxlan]", ("vxlan_xmit", "vxlan")),
        ("vxlan_xmit ([vxlan])", ("vxlan_xmit", "vxlan")),
        ("ip_output ([kernel.kallsyms])", ("ip_output", "")),
        ("__libc_sendto (/usr/lib/libc.so.6)", ("__libc_sendto", "")),
        ("veth_xmit (inlined)", ("veth_xmit", "")),
        ("[unknown]", ("[unknown]", "")),
        ("operator()(int)", ("operator()(int)", "")),
    ],
)
def test_a_printed_frame_is_split_into_symbol_and_module(raw: str, expected: tuple[str, str]) -> None:
    assert symbols.split(raw) == expected


def test_the_kernels_list_gives_modules_and_a_shared_name_has_none() -> None:
    lines = [
        b"ip_output\n",
        b"vxlan_xmit [vxlan]\n",
        b"init [a]\n",
        b"init\n",
        b"\n",
        b"two [a]\n",
        b"two [b]\n",
    ]
    assert symbols.read_kallsyms(lines) == {"ip_output": "", "vxlan_xmit": "vxlan", "init": "", "two": ""}
