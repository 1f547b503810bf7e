"""What a store of records must do: a SQLite file of one process, or a database of all replicas."""

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

    def last_hash(self) -> str:
        """The hash of the record that was written last; ``START`` of ``audit.chain`` without any."""

    def prune(self, before: datetime, covering: Callable[[Reach], Entry]) -> int:
        """Remove older records from the beginning of each chain, and keep a checkpoint of each cut.

        Returns how many were removed.
        """

    def close(self) -> None:
        """End; never raises."""
