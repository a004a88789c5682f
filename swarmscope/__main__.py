"""``swarmscope VERB``: the same verbs as ``invoke VERB``, from any directory."""

from __future__ import annotations

from invoke.config import Config
from invoke.program import Program

from swarmscope import __version__
from swarmscope.verbs import namespace
from swarmscope.verbs.command_line import adapt


class _Config(Config):
    """Invoke's settings under our own name: ``swarmscope.yml``, not somebody's ``invoke.yml``."""

    prefix = "swarmscope"


def program() -> Program:
    """The command-line program: Invoke's, with our verbs, and usage errors ending in 2."""
    result = Program(
        name="swarmscope", binary="swarmscope", namespace=namespace, version=__version__, config_class=_Config
    )
    adapt(result)
    return result


def main() -> None:
    """Entry point of the ``swarmscope`` script; ends in ``sys.exit``."""
    program().run()


if __name__ == "__main__":
    main()
