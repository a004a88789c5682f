"""What a container network costs, and why: traces from every host, on one clock, compared.

The public surface is the verbs (``invoke --list`` or ``swarmscope --list``). Everything right of the
border (``trace``, ``compare``, ``report``) works from a run directory alone, with no host and no root.
"""

__version__ = "0.1.0"

__all__ = ["__version__"]
