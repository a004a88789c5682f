"""What runs on every host: told what to do over its stdin, knows nothing of playbooks.

Scope: Python standard library, Python >= 3.8, Linux. Imports nothing else of swarmscope and uses relative
imports only, so that the same files work as ``swarmscope.agent`` in tests and as ``agent`` in the zipapp.
The zipapp holds this folder as ``agent/`` and a top-level ``__main__.py`` with the text of ``ZIP_MAIN``; it
is run as ``python3 agent.pyz agent --host NAME`` and speaks JSON lines on stdin and stdout (``protocol``).

Lifetime: the agent ends, and ends all it started, when its stdin closes, when no line came for ``--idle``
seconds, on a signal, or when the deadline of the lock it holds passes. Recorders also carry a deadline of
their own (``timeout``) and are told by the kernel when the agent is killed.
"""

__version__ = "0.1.0"

ZIP_MAIN = "import sys\n\nfrom agent.main import main\n\nsys.exit(main(sys.argv[1:]))\n"

__all__ = ["ZIP_MAIN", "__version__"]
