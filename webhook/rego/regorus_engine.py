"""An engine of regorus, which must be made, used and ended in one thread.

Python ends an object wherever its last reference goes, and for one that is part of a cycle that
is the thread in which the collector happens to run. So nobody else holds an engine: it is kept
with its thread, under a number, and whoever lets go of the number leaves it to that thread.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from collections import deque
from typing import Any

import regorus


class _Engines(threading.local):
    """The engines of one thread by number, and the numbers that others let go of."""

    def __init__(self) -> None:
        self.by_number: dict[int, Any] = {}
        self.let_go: deque[int] = deque()

    def end(self, owner: int, let_go: deque[int], number: int) -> None:
        """Nobody holds ``number`` of the thread ``owner`` any more; called in whichever thread."""
        if threading.get_ident() == owner:
            self.by_number.pop(number, None)
        else:
            let_go.append(number)

    def end_what_others_let_go(self) -> None:
        """What other threads could not end themselves."""
        while self.let_go:
            self.by_number.pop(self.let_go.popleft(), None)


_ENGINES = _Engines()
_NUMBERS = itertools.count()


class RegorusEngine:
    """A new engine of this thread. ``engine`` raises ``KeyError`` in any other."""

    __slots__ = ("__weakref__", "_number")

    def __init__(self) -> None:
        _ENGINES.end_what_others_let_go()
        self._number = next(_NUMBERS)
        _ENGINES.by_number[self._number] = regorus.Engine()
        ending = weakref.finalize(self, _ENGINES.end, threading.get_ident(), _ENGINES.let_go, self._number)
        ending.atexit = False

    @property
    def engine(self) -> Any:
        """The engine itself, for the length of a call: whoever keeps it defeats the purpose."""
        return _ENGINES.by_number[self._number]
