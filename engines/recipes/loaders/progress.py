"""Many files on all cores, with word of how far it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from engines.recipes.preparation import CORES

Progress = Callable[[int, int], None]
"""Is told how many of how many are done."""

_AHEAD = 4
"""So many a thread are begun at most, so that results do not heap up."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def nobody(done: int, total: int) -> None:
    """Tell nobody."""


def on_all_cores(
    do: Callable[[Item], Result],
    items: Sequence[Item],
    progress: Progress = nobody,
    threads: int = CORES,
) -> Iterator[Result]:
    """Yield what `do` makes of each item, in their order; decoders leave Python's lock alone."""
    with ThreadPoolExecutor(threads) as pool:
        waiting = iter(items)
        running = [pool.submit(do, item) for item in islice(waiting, threads * _AHEAD)]
        try:
            for done in range(len(items)):
                result = running.pop(0).result()
                running += [pool.submit(do, item) for item in islice(waiting, 1)]
                yield result
                progress(done + 1, len(items))
        finally:
            for future in running:
                future.cancel()


def some(names: Iterable[str], shown: int = 5) -> str:
    """Return the first names, and how many more there are: for a message."""
    listed = list(names)
    more = f" and {len(listed) - shown} more" if len(listed) > shown else ""
    return ", ".join(listed[:shown]) + more
