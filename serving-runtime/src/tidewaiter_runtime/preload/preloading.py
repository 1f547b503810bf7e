"""Brings a model to where its server looks, and gives it its name only when its bytes are the approved ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from tidewaiter_runtime.preload.folder_source import FolderSource
from tidewaiter_runtime.preload.hub_layout import folder_name, name_snapshot, snapshot_files
from tidewaiter_runtime.preload.layer_archive import Unpacking
from tidewaiter_runtime.preload.ranged_download import (
    PART,
    Download,
    Journal,
    Pace,
    listing_of,
    parts_of,
    waiting_s,
    written,
)
from tidewaiter_runtime.preload.shared_cache import CacheUnusable, Entry, SharedCache
from tidewaiter_runtime.preload.source_files import (
    STAGING,
    Interrupted,
    Source,
    SourceFile,
    SourceUnavailable,
    of_the_model,
    read_small,
)
from tidewaiter_runtime.preload.source_uri import SourceUri
from tidewaiter_runtime.preload.staging import Staging, staging
from tidewaiter_runtime.refusals import BadInput, ModelRefused, SignatureRefused, Unreadable, listed
from tidewaiter_runtime.sealing.seal_envelope import ENVELOPE
from tidewaiter_runtime.verification.manifest import Manifest, hash_files
from tidewaiter_runtime.verification.model_checks import Checks, is_approved
from tidewaiter_runtime.verification.model_files import ModelFile, is_ignored, list_model_files
from tidewaiter_runtime.verification.verification import Expected, Statement, read_signature, same_names


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be where: ``digest`` is empty where none is approved; ``hub`` is the layout of the hub's cache.

    ``signature`` says who must have signed; where ``signature_name`` is given, the signature itself is that file of
    the source.
    """

    uri: SourceUri
    destination: Path
    digest: str
    hub: bool
    signature: Expected = field(default_factory=Expected)
    signature_name: str = ""


@dataclass(frozen=True, slots=True)
class Brought:
    """What is there now, and whether it came from the source, the cache, or was at the destination already.

    ``digest`` is empty where nothing was hashed, ``signer`` where nothing was signed.
    """

    digest: str
    summary: str
    origin: str
    size: int = 0
    signer: str = ""

    @property
    def already(self) -> bool:
        """Whether an earlier run had brought it."""
        return self.origin == "destination"


Tell = Callable[[str], None]
_LARGEST_SIGNATURE = 64 << 20


def preload(wanted: Wanted, source: Source, pace: Pace, tell: Tell, cache: SharedCache | None = None) -> Brought:
    """Bring the model, unless it is there; raises a ``Refusal``. ``cache`` helps where a digest is approved."""
    if cache is None or not wanted.digest:
        return _preload(wanted, source, pace, tell, None)
    try:
        return _preload(wanted, source, pace, tell, cache)
    except _TamperedError as tampered:
        tell(f"the cache does not hold what it should, and is filled again: {tampered}")
    try:
        cache.forget(wanted.digest, lambda: tell(f"waiting for others that use {wanted.digest} in the cache"))
        return _preload(wanted, source, pace, tell, cache)
    except (CacheUnusable, _TamperedError) as why:
        tell(f"bringing it without the cache: {why}")
        return _preload(wanted, source, pace, tell, None)


class _TamperedError(Exception):
    """What the cache held was not the model, or could not be read."""


def _preload(wanted: Wanted, source: Source, pace: Pace, tell: Tell, cache: SharedCache | None) -> Brought:
    destination = wanted.destination
    with staging(destination, lambda: tell(f"waiting for another process that writes to {destination}")) as place:
        place.finish_naming()
        checks = _read_checks(wanted, source, pace)
        there = _there(wanted, place, checks)
        if there and (wanted.digest or checks.expected.signature):
            return _kept(wanted, hash_files(there), checks)
        if cache is not None and not any(is_ignored(one) for one in checks.statement.names):
            try:
                return _through_cache(wanted, source, checks, place, pace, tell, cache)
            except CacheUnusable as why:
                tell(f"bringing it without the cache: {why}")
        files = _listing(source, pace, checks.statement)
        if there:
            _same_listing(wanted, there, files)
            size = sum(one.size for one in there)
            return Brought("", f"{len(there)} file{'s' if len(there) != 1 else ''}", "destination", size)
        return _bring(wanted, source, files, checks, place, pace, tell)


def _read_checks(wanted: Wanted, source: Source, pace: Pace) -> Checks:
    expected = wanted.signature
    if wanted.signature_name:
        content = _tried(pace, source.shown, lambda: _signature_in(source, wanted.signature_name))
        expected = replace(expected, signature=content, signature_path=Path(wanted.signature_name))
    expected = replace(expected, digest=wanted.digest)
    statement = read_signature(expected)
    signed = statement.signed
    if wanted.digest and signed is not None and not is_approved(signed.manifest, wanted.digest):
        raise ModelRefused(
            f"{expected.signature_path} signs another model than the approved one: expected {wanted.digest}, "
            f"found {statement.digest}"
        )
    return Checks(wanted.digest, expected, statement)


def _signature_in(source: Source, name: str) -> bytes:
    found = next((one for one in source.files() if one.name == name), None)
    if found is None:
        raise BadInput(f"--signature: {source.shown} has no file {name!r}")
    return read_small(source, found, _LARGEST_SIGNATURE)


def _kept(wanted: Wanted, found: Manifest, checks: Checks) -> Brought:
    try:
        signer = checks.hold(str(wanted.destination), found, "give an empty volume")
    except ModelRefused as refusal:
        raise ModelRefused(f"{wanted.destination} holds another model already: {refusal}") from None
    size = sum(found.sizes.values())
    return Brought(wanted.digest or found.digest, found.summary, "destination", size, signer)


def _through_cache(
    wanted: Wanted, source: Source, checks: Checks, place: Staging, pace: Pace, tell: Tell, cache: SharedCache
) -> Brought:
    """Have the cache filled where it must be, and bring the model from there as from any folder."""
    filled = False

    def fill(entry: Entry) -> None:
        nonlocal filled
        filled = True
        with _in_cache():
            _fill(wanted, source, entry, pace, tell, cache)

    def waiting() -> None:
        tell(f"waiting for another process that uses {wanted.digest} in the cache")

    with cache.hold(wanted.digest, fill, waiting) as entry:
        shelf = _Shelf(entry, wanted)
        try:
            files = _listing(shelf, pace, checks.statement)
            brought = _bring(wanted, shelf, files, checks, place, pace, tell)
        except (ModelRefused, SourceUnavailable) as refusal:
            if filled:
                raise
            raise _TamperedError(str(refusal)) from None
        return replace(brought, origin="source" if filled else "cache")


def _fill(wanted: Wanted, source: Source, entry: Entry, pace: Pace, tell: Tell, cache: SharedCache) -> None:
    into = replace(wanted, destination=entry.filling, hub=False, signature=Expected(), signature_name="")
    with staging(entry.filling, lambda: tell("waiting for another process that fills the cache")) as place:
        place.finish_naming()
        files = _listing(source, pace, Statement())
        for digest in cache.make_room(sum(max(0, one.size) for one in files), entry):
            tell(f"evicted {digest} from the cache")
        checks = Checks(wanted.digest, Expected(), Statement())
        if not place.entries():
            _bring(into, source, files, checks, place, pace, tell)
    entry.finish(source.revision)


@contextmanager
def _in_cache() -> Iterator[None]:
    """A cache that is full, or cannot be written, cannot be used; with a silent source it has nothing to do."""
    try:
        yield
    except (SourceUnavailable, CacheUnusable):
        raise
    except Unreadable as error:
        raise CacheUnusable(str(error)) from None


class _Shelf(FolderSource):
    """The model in the cache; for the hub's layout it has the commit that it came from."""

    def __init__(self, entry: Entry, wanted: Wanted) -> None:
        super().__init__(SourceUri("file", "", str(entry.model), str(entry.model)))
        self.revision = entry.revision
        if wanted.hub and not self.revision:
            raise CacheUnusable(f"{entry.folder} does not say which commit the model is of")


def _there(wanted: Wanted, place: Staging, checks: Checks) -> list[ModelFile]:
    """The files of a model that lies at the destination."""
    entries = place.entries()
    if wanted.hub:
        named = folder_name(wanted.uri.path) in entries
        return snapshot_files(wanted.destination, wanted.uri.path, wanted.uri.revision) if named else []
    if not entries:
        return []
    return list_model_files(wanted.destination, always=checks.statement.names, never=(STAGING,))


def _same_listing(wanted: Wanted, there: Sequence[ModelFile], files: Sequence[SourceFile]) -> None:
    """Without a digest only names and sizes can tell whether a model is there already."""
    if any(one.archive for one in files):
        raise ModelRefused(
            f"{wanted.destination} holds files already, and without --digest it cannot be told whether they are "
            f"those of {wanted.uri.shown}; give --digest, or an empty volume"
        )
    found, expected = {one.name: one.size for one in there}, {one.name: one.size for one in files}
    if found != expected:
        raise ModelRefused(f"{wanted.destination} holds other files than {wanted.uri.shown}; give an empty volume")


def _listing(source: Source, pace: Pace, statement: Statement) -> list[SourceFile]:
    """What is brought; not what the signer has left out, since nobody vouches for it."""
    found = _tried(pace, source.shown, source.files)
    if any(one.name == ENVELOPE for one in found):
        raise BadInput(f"{source.shown} is sealed; give its key: --key")
    files = of_the_model(found, source.shown, statement.names)
    return [one for one in files if not is_ignored(one.name, statement.ignored)]


_Answer = TypeVar("_Answer")


def _tried(pace: Pace, shown: str, ask: Callable[[], _Answer]) -> _Answer:
    """Ask again where that can succeed."""
    for attempt in range(1, pace.attempts + 1):
        try:
            return ask()
        except Interrupted as why:
            if attempt == pace.attempts:
                raise SourceUnavailable(f"{shown} did not answer in {attempt} attempts; the last: {why}") from None
            pace.retried()
            time.sleep(waiting_s(pace, attempt, why))
    raise AssertionError("attempts are at least one")


def _bring(
    wanted: Wanted,
    source: Source,
    files: Sequence[SourceFile],
    checks: Checks,
    place: Staging,
    pace: Pace,
    tell: Tell,
) -> Brought:
    if not any(one.archive for one in files):
        same_names(source.shown, {one.name for one in files}, checks.expected, checks.statement)
    journal = Journal(place.journal, listing_of(source.shown, files))
    total, have = sum(max(0, one.size) for one in files), 0
    if journal.continues:
        tell("going on with what an earlier run brought")
        have = sum(part.end - part.start for one in files for part in parts_of(one) if part in journal and one.size > 0)
    else:
        place.empty()
    place.needs(total - have)  # before there is a part for each 32 MiB of whatever size the source told
    journal.start()
    meter = _Meter(total, have, tell)
    try:
        _refuse_early(source, files, checks, place, journal, pace)
        Download(source, place.files, journal, pace, meter).bring(files)
        found = hash_files([_staged(place, one) for one in files])
        _as_claimed(source, files, found)
        if any(one.archive for one in files):
            found = _unpacked(source, files, place, checks.statement)
        signer = checks.hold(source.shown, found, "nothing was left at the destination")
    except (ModelRefused, SignatureRefused):
        place.discard()
        raise
    if wanted.hub:
        # Named by what was hashed: by names of the hub's one file could take the place of another.
        named = [replace(one, blob=found.digests[one.name]) for one in files]
        name_snapshot(place, wanted.uri.path, wanted.uri.revision, source.revision, named)
    else:
        place.name_files()
    place.discard()
    size = sum(found.sizes.values())
    return Brought(wanted.digest or found.digest, found.summary, "source", size, signer)


def _unpacked(source: Source, files: Sequence[SourceFile], place: Staging, statement: Statement) -> Manifest:
    """The files that the archives hold, beside those that came as they are."""
    packed = place.folder / "layers"
    with written(place.folder):
        place.journal.unlink(missing_ok=True)  # from here on the archives are no longer where it says
        packed.mkdir()
        archives = []
        for one in files:
            if one.archive is not None:
                (place.files / one.name).rename(packed / one.name)
                archives.append((one, packed / one.name))
    names = Unpacking(place.files, source.shown, place.needs).archives(archives)
    listed_names = [SourceFile(name, "", 0) for name in names]
    kept = of_the_model(listed_names, source.shown, statement.names)
    kept = [one for one in kept if not is_ignored(one.name, statement.ignored)]
    with written(place.files):
        for name in set(names) - {one.name for one in kept}:
            (place.files / name).unlink()
    return hash_files([_staged(place, one) for one in kept])


def _staged(place: Staging, file: SourceFile) -> ModelFile:
    path = place.files / file.name
    return ModelFile(file.name, path, path.lstat().st_size)


def _refuse_early(
    source: Source, files: Sequence[SourceFile], checks: Checks, place: Staging, journal: Journal, pace: Pace
) -> None:
    """Where the source tells the SHA-256 of its large files, the small ones are enough to know the digest."""
    if any(one.archive for one in files):
        return
    small = [one for one in files if not one.sha256]
    if (
        not (checks.digest or checks.expected.signature)
        or len(small) == len(files)
        or any(one.size > PART for one in small)
    ):
        return
    Download(source, place.files, journal, pace, lambda _: None).bring(small)
    known = {one.name: one.sha256 for one in files if one.sha256}
    sizes = {one.name: one.size for one in files}
    read = hash_files([_staged(place, one) for one in small]).digests if small else {}
    expected = Manifest({**known, **read}, sizes)
    checks.hold(source.shown, expected, "nothing was left at the destination")


def _as_claimed(source: Source, files: Sequence[SourceFile], found: Manifest) -> None:
    problems = [
        f"{one.name!r}: expected sha256:{one.sha256}, found sha256:{found.digests[one.name]}"
        for one in files
        if one.sha256 and found.digests[one.name] != one.sha256
    ]
    if problems:
        raise ModelRefused(f"{source.shown} sent other bytes than it lists: {listed(problems)}")


class _Meter:
    """Progress as a line: how much is there, and how fast it came."""

    def __init__(self, total: int, have: int, tell: Tell) -> None:
        self._total = total
        self._have = have
        self._tell = tell
        self._began = time.monotonic()
        self._told = -1.0

    def __call__(self, arrived: int) -> None:
        now = time.monotonic()
        if arrived < self._total and now - self._told < 1.0:
            return
        self._told = now
        speed = (arrived - self._have) / max(now - self._began, 1e-3) / 1e6
        of = f" of {self._total / 1e6:,.1f}" if self._total else ""
        self._tell(f"{arrived / 1e6:,.1f}{of} MB, {speed:,.0f} MB/s")
