"""What a store of records must do. SQLite is the one that there is; the interface is kept so
narrow that a server for many replicas can stand behind it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

from audit.chain import Entry
from audit.checkpoint import Reach


class StoreError(Exception):
    """The store did not do it now and may do it later; the text is a sentence."""


class RecordStore(Protocol):
    """Used by one thread. Every method may raise ``StoreError``."""

    def append(self, entries: Sequence[Entry]) -> None:
        """Keep all or none, for good; what is there already is left alone."""

    def prune(self, before: datetime, covering: Callable[[Reach], Entry]) -> int:
        """Remove older records from the beginning of each chain, and keep a checkpoint of each cut.

        Returns how many were removed.
        """

    def close(self) -> None:
        """End; never raises."""
