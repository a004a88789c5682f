"""The verbs: ``invoke --list``. Thin by design: every verb lives in ``swarmscope.verbs``."""

from swarmscope.verbs import namespace

__all__ = ["namespace"]
