"""Imported first by programs: what they import makes hundreds of thousands of objects and no garbage.

Scope: looking for garbage in them, again and again, takes a tenth of the time until a program begins. Not for
who imports swarmscope into a program of their own.
"""

from __future__ import annotations

import gc

gc.set_threshold(100_000, 20, 50)
