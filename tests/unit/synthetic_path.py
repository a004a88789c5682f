"""The way of a ping through two hosts, event by event, as a real kernel 6.18 with veth and VXLAN goes it.

Names, stacks and order were taken from a recording; only the waits are invented.
"""

from __future__ import annotations

from dataclasses import dataclass

WIRE = 103
NETNS = {"n1": 101, "n2": 102, "c1": 111, "c2": 112, "o1": 121, "o2": 122}
QUEUE, START, XMIT = "net:net_dev_queue", "net:net_dev_start_xmit", "net:net_dev_xmit"
RX_ENTRY, RX, RECEIVE = "net:netif_rx_entry", "net:netif_rx", "net:netif_receive_skb"
GRO, CONSUME = "net:napi_gro_receive_entry", "skb:consume_skb"

HANDED = (RX, RX_ENTRY)

SEND = ("entry_SYSCALL_64_after_hwframe", "do_syscall_64", "__x64_sys_sendto", "__sys_sendto", "raw_sendmsg")
OUT = ("ip_push_pending_frames", "ip_output", "ip_finish_output2", "__dev_queue_xmit")
SOFTIRQ = (*SEND, *OUT, "__local_bh_enable_ip", "do_softirq", "handle_softirqs")
BACKLOG = ("net_rx_action", "__napi_poll", "process_backlog", "__netif_receive_skb_one_core")
CORE = "__netif_receive_skb_core"
BRIDGE = ("br_handle_frame", "br_nf_pre_routing", "br_handle_frame_finish", "__br_forward", "nf_hook_slow")
FORWARD = (*BRIDGE, "br_forward_finish", "br_dev_queue_push_xmit", "__dev_queue_xmit")
VXLAN = (
    "dev_hard_start_xmit",
    "vxlan_xmit",
    "vxlan_xmit_one",
    "iptunnel_xmit",
    "ip_output",
    "ip_finish_output2",
)
CELL = (
    "net_rx_action",
    "__napi_poll",
    "gro_cell_poll",
    "napi_complete_done",
    "netif_receive_skb_list_internal",
)
DELIVER = ("ip_rcv", "ip_local_deliver", "ip_protocol_deliver_rcu", "icmp_rcv")
REPLY = ("icmp_reply", "icmp_push_reply")
NOISE = ("exc_page_fault", "do_user_addr_fault", "asm_sysvec_apic_timer_interrupt", "irq_exit_rcu")

KALLSYMS = frozenset(
    {
        *SOFTIRQ,
        *BACKLOG,
        CORE,
        *FORWARD,
        *VXLAN,
        *CELL,
        *DELIVER,
        *REPLY,
        "veth_xmit",
        "__netif_rx",
        "netif_rx",
    }
    | {"vxlan_rcv", "gro_cells_receive", "br_forward", "netif_rx_internal", "ping_rcv"}
)


@dataclass(frozen=True)
class Place:
    """A device and what stands above its transmit or receive events in a stack."""

    host: str
    netns: int
    ifindex: int
    dev: str
    role: str
    label: str
    vni: int | None = None
    outer: bool = False


def places(arm: str, side: int) -> dict[str, Place]:
    """Devices of host n<side>, by short name."""
    host, outer = f"n{side}", arm == "subject"
    return {
        "nic": Place(host, NETNS[host], 2, "eth0", "nic", "host eth0", None, outer),
        "vxlan": Place(host, NETNS[f"o{side}"], 4, "vxlan0", "vxlan", "vxlan (VNI 4097)", 4097),
        "veth": Place(host, NETNS[f"o{side}"], 6, "veth0", "veth", "veth", 4097),
        "container": Place(host, NETNS[f"c{side}"], 5, "eth0", "container", "container eth0", 4097),
        "bridge": Place(host, NETNS[f"o{side}"], 2, "br0", "bridge", "overlay bridge", 4097),
        "wire": Place("", WIRE, 10 + side, f"p{side}", "wire", "wire"),
    }


def chain(arm: str, sender: int, own: tuple[str, ...]) -> list[tuple[float, str, Place, tuple[str, ...]]]:
    """(us since the last event, event, place, stack) of one packet from host n<sender> to the other."""
    a, b = places(arm, sender), places(arm, 3 - sender)
    steps: list[tuple[float, str, Place, tuple[str, ...]]] = []

    def transmit(device: Place, above: tuple[str, ...], peer: Place, wait: float) -> None:
        hard = (*above, "dev_hard_start_xmit")
        steps.append((wait, QUEUE, device, above))
        steps.append((1, START, device, hard))
        steps.append((1, RX_ENTRY, peer, (*hard, "veth_xmit", "__netif_rx")))
        steps.append((1, RX, peer, (*hard, "veth_xmit", "__netif_rx", "netif_rx_internal")))
        steps.append((1, XMIT, device, hard))

    def receive(device: Place, wait: float) -> None:
        steps.append((wait, RECEIVE, device, (*SOFTIRQ, *BACKLOG, CORE)))

    switch = (*SOFTIRQ, *BACKLOG, CORE, *FORWARD)
    if arm == "baseline":
        transmit(a["nic"], (*own, *OUT), a["wire"], 0)
        final, end = b["nic"], (*SOFTIRQ, *BACKLOG, CORE, *DELIVER)
    else:
        transmit(a["container"], (*own, *OUT), a["veth"], 0)
        receive(a["veth"], 2)
        steps.append((4, QUEUE, a["vxlan"], switch))
        steps.append((1, START, a["vxlan"], (*switch, "dev_hard_start_xmit")))
        transmit(a["nic"], (*switch, *VXLAN, "__dev_queue_xmit"), a["wire"], 6)
        final, end = b["container"], (*SOFTIRQ, *BACKLOG, CORE, *DELIVER)
    receive(a["wire"], 3)
    transmit(b["wire"], switch, b["nic"], 2)
    receive(b["nic"], 4)
    if arm == "subject":
        steps.append((6, GRO, b["vxlan"], (*SOFTIRQ, *CELL[:3], "gro_receive_skb")))
        steps.append((3, RECEIVE, b["vxlan"], (*SOFTIRQ, *CELL, CORE)))
        transmit(b["veth"], (*SOFTIRQ, *CELL, CORE, *FORWARD), b["container"], 4)
        receive(b["container"], 2)
    steps.append((5, CONSUME, final, end))
    return steps
