"""The verbs: ``invoke --list``. Thin by design: every verb lives in ``swarmscope.verbs``."""

from invoke.main import program

from swarmscope.verbs import namespace
from swarmscope.verbs.flags import end_parse_errors_in_2

__all__ = ["namespace"]

end_parse_errors_in_2(program)
