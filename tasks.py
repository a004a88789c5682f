"""The verbs: ``invoke --list``. Thin by design: every verb lives in ``swarmscope.verbs``."""

from invoke.main import program

from swarmscope.verbs import namespace
from swarmscope.verbs.command_line import adapt

__all__ = ["namespace"]

adapt(program)
