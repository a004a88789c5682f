"""Work on the pieces of a file side by side, results in the order of the file.

Scope: ``ahead`` for work on pieces that need nothing of each other; a few are under way at once, as many as
there are processors and one: memory does not grow with the file. ``before`` for pieces that are made one
after the other. The work must be compiled code that lets others run (``nogil``), and much of it: whoever
comes back from it may have to wait milliseconds for its turn.
"""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

THREADS = len(os.sched_getaffinity(0))
UNDER_WAY = THREADS + 1
"""Items that are in use at once, at most: those in work, and the one that was given last."""
_T = TypeVar("_T")
_R = TypeVar("_R")


def ahead(work: Callable[[_T], _R], items: Iterable[_T]) -> Iterator[tuple[_T, _R]]:
    """Each item with its result. ``items`` are taken one after the other, by the caller's thread."""
    items = iter(items)
    some = list(itertools.islice(items, 2))
    if len(some) < 2:  # not worth a thread
        yield from ((item, work(item)) for item in some)
        return
    under_way: deque[tuple[_T, Future[_R]]] = deque()
    with ThreadPoolExecutor(THREADS) as pool:
        for item in itertools.chain(some, items):
            under_way.append((item, pool.submit(work, item)))
            if len(under_way) > THREADS:
                first, future = under_way.popleft()
                yield first, future.result()
        for first, future in under_way:
            yield first, future.result()


def before(items: Iterator[_T]) -> Iterator[_T]:
    """The same items, each made while the one before it is in use; None ends them."""
    with ThreadPoolExecutor(1) as beside:
        coming = beside.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = beside.submit(next, items, None)
            yield item
