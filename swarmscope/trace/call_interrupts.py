"""Which functions begin an interrupt, and where one interrupt ends and the next begins.

Scope: names as data, for x86 and arm64, kernels 4.x to 6.x. A hard interrupt runs on top of whatever call was
under way. What of its path can be traced differs: ``asm_*`` and ``sysvec_*`` are ``noinstr`` on current x86,
and what is left are siblings: ``irq_enter_rcu``, ``__sysvec_*`` or ``__common_interrupt``, ``irq_exit_rcu``.
So each name has a *stage*, in the order in which they nest. A named function begins a new interrupt unless
the innermost named function around it has a smaller stage: then it is a further step into the same one.
Softirq work run at interrupt exit lies below ``irq_exit_rcu`` and goes with the interrupt; within it every
named function begins another interrupt.

Limits: softirq work that a task starts itself (``do_softirq`` from ``__local_bh_enable_ip``) is a call like
any other. Where none of these names was traced an interrupt is seen only if the recorder tells contexts
(``Edges.hardirq``), and softirq work at its exit then counts as the interrupted call's. Of an interrupt that
shows in three siblings the time between them is not cut.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

WORK: Final = 100
"""Stage of softirq work: whatever interrupt is named inside it is another one."""

_STAGES: Final = (
    (
        1,
        r"asm_(?:sysvec_|common_interrupt|spurious_interrupt|exc_nmi|call_irq_on_stack|call_sysvec_on_stack).*",
    ),
    (1, r"(?:el1h?_64_irq|el0t?_64_irq|el[01]_irq|el1h_64_fiq|el1h_64_irq_handler|el0t_64_irq_handler)"),
    (2, r"(?:sysvec_\w+|common_interrupt|spurious_interrupt|do_IRQ|smp_\w+_interrupt|smp_\w+_ipi)"),
    (2, r"(?:do_nmi|exc_nmi|el1_interrupt|el0_interrupt|__el1_irq|__el0_irq_handler_common)"),
    (3, r"(?:__sysvec_\w+|__common_interrupt|__smp_\w+_interrupt|call_on_irq_stack|do_interrupt_handler)"),
    (3, r"(?:irq_enter|irq_enter_rcu|gic_handle_irq|generic_handle_arch_irq|default_do_nmi|nmi_handle)"),
    (4, r"(?:irq_exit|irq_exit_rcu|handle_domain_irq|handle_IPI|ipi_handler|do_handle_IPI)"),
    (5, r"(?:__irq_exit_rcu)"),
    (
        WORK,
        r"(?:handle_softirqs|__do_softirq|invoke_softirq|do_softirq(?:_own_stack)?|__softirqentry_text_start)",
    ),
    (WORK, r"(?:net_rx_action|net_tx_action|run_timer_softirq|tasklet_(?:hi_)?action|rcu_core_si)"),
)
_PATTERNS: Final = tuple((stage, re.compile(pattern)) for stage, pattern in _STAGES)


def stage(name: str) -> int:
    """The stage of a function: 0 for one that has nothing to do with interrupts."""
    bare = name.partition(" ")[0].partition(".")[0]
    return next((number for number, pattern in _PATTERNS if pattern.fullmatch(bare)), 0)


def stages(names: Sequence[str]) -> npt.NDArray[np.int32]:
    """``stage`` of each name."""
    return np.fromiter((stage(name) for name in names), dtype=np.int32, count=len(names))
