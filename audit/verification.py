"""Is anything edited, removed, moved or cut off? Names the first bad record of each chain."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from audit.chain import START, Entry, hash_of
from audit.checkpoint import CLOSE, RETENTION, signature_problem
from audit.checkpoint import SCHEMA as CHECKPOINT

_HASH_BYTES = 32
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Damaged:
    """Something that stands where a record should: ``place`` and ``problem`` make a sentence."""

    place: str
    problem: str
    replica: str = ""


@dataclass(slots=True)
class ChainReport:
    """What is known of one chain. ``covered`` is the last record that a good checkpoint covers."""

    replica: str
    records: int = 0
    first: int = 0
    last: int = 0
    covered: int = 0
    closed: bool = False
    removed_by_retention: int = 0
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Verified:
    """The outcome: chains, problems that belong to none, and how many signatures were looked at."""

    chains: tuple[ChainReport, ...]
    problems: tuple[str, ...]
    signatures: int

    @property
    def records(self) -> int:
        """How many records there are."""
        return sum(one.records for one in self.chains)

    @property
    def all_problems(self) -> tuple[str, ...]:
        """The first problem of each chain, and the others."""
        return tuple(one.problem for one in self.chains if one.problem) + self.problems


def verify(
    entries: Iterable[Entry | Damaged],
    keys: Mapping[str, Ed25519PublicKey],
    *,
    whole: bool,
    uncovered: int | None = None,
) -> Verified:
    """Check entries, each chain in the order in which it should be.

    Without ``keys`` signatures are not looked at, and checkpoints believed. ``whole`` says that
    the entries are all that there ever was, so that the record which a chain follows must be
    there. ``uncovered`` is how many records at the end of a chain may be without a checkpoint.
    """
    checking = _Checking(keys)
    for entry in entries:
        checking.take(entry)
    return checking.end(whole=whole, uncovered=uncovered)


@dataclass(slots=True)
class _Chain:
    report: ChainReport
    previous: str = ""
    follows: str = START
    """The record of an earlier chain that was the last when this one began."""
    hashes: bytearray = field(default_factory=bytearray)
    ahead: dict[int, dict[str, Any]] = field(default_factory=dict)
    """Checkpoints of records that did not come yet."""
    cut: tuple[int, str] | None = None
    """The last record that retention removed, and its hash."""

    def blame(self, problem: str) -> None:
        if not self.report.problem:
            self.report.problem = problem

    def has(self, digest: bytes) -> bool:
        at = self.hashes.find(digest) if digest else -1
        while at % _HASH_BYTES and at > 0:
            at = self.hashes.find(digest, at + 1)
        return at >= 0

    def hash_at(self, sequence: int) -> str:
        start = (sequence - self.report.first) * _HASH_BYTES
        return self.hashes[start : start + _HASH_BYTES].hex()


class _Checking:
    def __init__(self, keys: Mapping[str, Ed25519PublicKey]) -> None:
        self._keys = keys
        self._chains: dict[str, _Chain] = {}
        self._problems: list[str] = []
        self._signatures = 0

    def take(self, entry: Entry | Damaged) -> None:
        if isinstance(entry, Damaged):
            sentence = f"{entry.place} {entry.problem}"
            if entry.replica:
                self._chain(entry.replica).blame(sentence)
            else:
                self._problems.append(sentence)
            return
        value = entry.value
        replica, sequence = value.get("replica"), value.get("sequence")
        if not isinstance(replica, str) or not isinstance(sequence, int) or sequence < 1:
            self._problems.append(f"record {value.get('uid') or value.get('id') or '(without id)'} is in no chain")
        elif value.get("schema") == CHECKPOINT:
            self._checkpoint(self._chain(replica), value, sequence)
        else:
            self._record(self._chain(replica), entry, sequence)

    def _chain(self, replica: str) -> _Chain:
        if replica not in self._chains:
            self._chains[replica] = _Chain(ChainReport(replica))
        return self._chains[replica]

    def _record(self, chain: _Chain, entry: Entry, sequence: int) -> None:
        report = chain.report
        report.records += 1
        if report.problem:
            return
        found = hash_of(entry)
        fault = self._fault(chain, entry, sequence, found)
        if fault:
            chain.blame(f"record {entry.value.get('id')} ({sequence} of {report.replica}) {fault}")
            return
        report.last, chain.previous = sequence, found
        chain.hashes += bytes.fromhex(found)
        waiting = chain.ahead.pop(sequence, None)
        if waiting is not None:
            self._compare(chain, waiting, sequence)

    def _fault(self, chain: _Chain, entry: Entry, sequence: int, found: str) -> str:
        """What is wrong with a record that comes next; "" for nothing."""
        report, previous = chain.report, entry.value.get("previous")
        if found != entry.value.get("hash"):
            return "was edited: its hash is not that of what it says"
        if not report.last:
            return self._fault_of_first(chain, sequence, previous)
        if sequence != report.last + 1:
            return _out_of_order(sequence, report.last)
        if previous != chain.previous:
            return "does not follow the record before it: one of the two was replaced"
        return ""

    def _fault_of_first(self, chain: _Chain, sequence: int, previous: object) -> str:
        chain.report.first = sequence
        if sequence == 1 and isinstance(previous, str):
            chain.follows = previous
        if chain.cut is not None:
            after, cut = chain.cut
            if sequence == after + 1 and previous == cut:
                return ""
            return f"is not the one that follows record {after}, the last that retention removed"
        if sequence != 1:
            missing = "record 1 is" if sequence == 2 else f"records 1 to {sequence - 1} are"
            return f"is the first of its chain: {missing} missing"
        return ""

    def _checkpoint(self, chain: _Chain, value: dict[str, Any], sequence: int) -> None:
        report = chain.report
        if self._keys:
            self._signatures += 1
            problem = signature_problem(value, self._keys)
            if problem:
                chain.blame(f"the checkpoint at record {sequence} of {report.replica} is not genuine: {problem}")
                return
        if value.get("reason") == RETENTION:
            if chain.cut is None or chain.cut[0] < sequence:
                chain.cut = sequence, str(value.get("hash"))
                report.removed_by_retention = report.covered = sequence
            return
        report.closed = report.closed or value.get("reason") == CLOSE
        if report.last and report.first <= sequence <= report.last:
            self._compare(chain, value, sequence)
        else:
            chain.ahead.setdefault(sequence, value)
            if value.get("hash") != chain.ahead[sequence].get("hash"):
                chain.blame(f"two checkpoints at record {sequence} of {report.replica} contradict each other")

    def _compare(self, chain: _Chain, checkpoint: Mapping[str, Any], sequence: int) -> None:
        report = chain.report
        if checkpoint.get("hash") != chain.hash_at(sequence):
            after = f" after record {report.covered}" if report.covered else ""
            chain.blame(
                f"records of {report.replica} up to {sequence} are not those that were signed: "
                f"one of them{after} was replaced, and the chain written anew"
            )
            return
        report.covered = max(report.covered, sequence)

    def _is_here(self, followed: str) -> bool:
        """Whether a record is among those that were read, or retention may have removed it."""
        if followed == START:
            return True
        digest = bytes.fromhex(followed) if _HASH.fullmatch(followed) else b""
        return any(chain.cut is not None or chain.has(digest) for chain in self._chains.values())

    def end(self, *, whole: bool, uncovered: int | None) -> Verified:
        for chain in self._chains.values():
            report = chain.report
            beyond = [sequence for sequence in chain.ahead if sequence > max(report.last, report.removed_by_retention)]
            if beyond:
                first = max(report.last, report.removed_by_retention) + 1
                chain.blame(
                    f"record {first} of {report.replica} is missing: "
                    f"a checkpoint says that there were {max(beyond)} records"
                )
            elif uncovered is not None and report.last - report.covered > uncovered:
                chain.blame(
                    f"record {report.covered + 1} of {report.replica} and the {report.last - report.covered - 1} after "
                    f"it are not covered by a checkpoint, and at most {uncovered} may be"
                )
            if whole and not self._is_here(chain.follows):
                chain.blame(
                    f"{report.replica} begins after a record with hash {chain.follows[:16]}..., "
                    "and that one is missing: a whole chain was removed, or the end of one"
                )
        return Verified(tuple(one.report for one in self._chains.values()), tuple(self._problems), self._signatures)


def _out_of_order(sequence: int, last: int) -> str:
    if sequence <= last:
        return f"comes after record {last}: it is there twice, or records were moved"
    missing = f"record {last + 1} is" if sequence == last + 2 else f"records {last + 1} to {sequence - 1} are"
    return f"comes after record {last}: {missing} missing, or came later"
