"""Brings a model to where its server looks, and gives it its name only when its bytes are the approved ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tidewaiter_runtime.folder_source import FolderSource
from tidewaiter_runtime.hub_layout import folder_name, name_snapshot, snapshot_files
from tidewaiter_runtime.hub_source import HubSource
from tidewaiter_runtime.manifest import Manifest, hash_files
from tidewaiter_runtime.model_files import ModelFile, list_model_files
from tidewaiter_runtime.ranged_download import PART, Download, Journal, Pace, listing_of, parts_of, waiting_s
from tidewaiter_runtime.refusals import ModelRefused, listed
from tidewaiter_runtime.source_files import (
    STAGING,
    Interrupted,
    Source,
    SourceFile,
    SourceUnavailable,
    of_the_model,
)
from tidewaiter_runtime.source_uri import SourceUri
from tidewaiter_runtime.staging import Staging, staging
from tidewaiter_runtime.web_client import WebClient
from tidewaiter_runtime.web_source import WebSource


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be where: ``digest`` is empty where none is approved; ``hub`` is the layout of the hub's cache."""

    uri: SourceUri
    destination: Path
    digest: str
    hub: bool


@dataclass(frozen=True, slots=True)
class Brought:
    """What is there now; ``already``: an earlier run had brought it. ``digest`` is empty where nothing was hashed."""

    digest: str
    summary: str
    already: bool


Tell = Callable[[str], None]


def open_source(uri: SourceUri, connections: int, environment: Mapping[str, str]) -> Source:
    """The source of a URI; credentials come from ``environment`` alone."""
    if uri.scheme == "file":
        return FolderSource(uri)
    if uri.scheme == "hf":
        return HubSource(uri, WebClient(connections), environment)
    if uri.scheme == "https":
        return WebSource(uri, WebClient(connections))
    from tidewaiter_runtime.object_store_source import ObjectStoreSource  # 15 MB that the others do not need

    return ObjectStoreSource(uri, environment)


def preload(wanted: Wanted, source: Source, pace: Pace, tell: Tell) -> Brought:
    """Bring the model, unless it is there; raises a ``Refusal``."""
    destination = wanted.destination
    with staging(destination, lambda: tell(f"waiting for another process that writes to {destination}")) as place:
        place.finish_naming()
        there = _there(wanted, place)
        if there and wanted.digest:
            found = hash_files(there)
            if _is(found, wanted.digest):
                return Brought(wanted.digest, found.summary, already=True)
            raise ModelRefused(
                f"{destination} holds another model already: expected {wanted.digest}, found {found.digest} "
                f"({found.summary}); give an empty volume"
            )
        files = _listing(source, pace)
        if there:
            _same_listing(wanted, there, files)
            return Brought("", f"{len(there)} file{'s' if len(there) != 1 else ''}", already=True)
        return _bring(wanted, source, files, place, pace, tell)


def _there(wanted: Wanted, place: Staging) -> list[ModelFile]:
    """The files of a model that lies at the destination."""
    entries = place.entries()
    if wanted.hub:
        named = folder_name(wanted.uri.path) in entries
        return snapshot_files(wanted.destination, wanted.uri.path, wanted.uri.revision) if named else []
    return list_model_files(wanted.destination, never=(STAGING,)) if entries else []


def _same_listing(wanted: Wanted, there: Sequence[ModelFile], files: Sequence[SourceFile]) -> None:
    """Without a digest only names and sizes can tell whether a model is there already."""
    found, expected = {one.name: one.size for one in there}, {one.name: one.size for one in files}
    if found != expected:
        raise ModelRefused(f"{wanted.destination} holds other files than {wanted.uri.shown}; give an empty volume")


def _listing(source: Source, pace: Pace) -> list[SourceFile]:
    for attempt in range(1, pace.attempts + 1):
        try:
            return of_the_model(source.files(), source.shown)
        except Interrupted as why:
            if attempt == pace.attempts:
                raise SourceUnavailable(
                    f"{source.shown} did not answer in {attempt} attempts; the last: {why}"
                ) from None
            time.sleep(waiting_s(pace, attempt, why))
    raise AssertionError("attempts are at least one")


def _bring(
    wanted: Wanted, source: Source, files: Sequence[SourceFile], place: Staging, pace: Pace, tell: Tell
) -> Brought:
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
        _refuse_early(wanted, source, files, place, journal, pace)
        Download(source, place.files, journal, pace, meter).bring(files)
        found = hash_files([_staged(place, one) for one in files])
        _as_claimed(source, files, found)
        _as_approved(source, found, wanted.digest)
    except ModelRefused:
        place.discard()
        raise
    if wanted.hub:
        name_snapshot(place, wanted.uri.path, wanted.uri.revision, source.revision, files)
    else:
        place.name_files()
    place.discard()
    return Brought(wanted.digest or found.digest, found.summary, already=False)


def _staged(place: Staging, file: SourceFile) -> ModelFile:
    path = place.files / file.name
    return ModelFile(file.name, path, path.lstat().st_size)


def _refuse_early(
    wanted: Wanted, source: Source, files: Sequence[SourceFile], place: Staging, journal: Journal, pace: Pace
) -> None:
    """Where the source tells the SHA-256 of its large files, the small ones are enough to know the digest."""
    small = [one for one in files if not one.sha256]
    if not wanted.digest or len(small) == len(files) or any(one.size > PART for one in small):
        return
    Download(source, place.files, journal, pace, lambda _: None).bring(small)
    known = {one.name: one.sha256 for one in files if one.sha256}
    sizes = {one.name: one.size for one in files}
    read = hash_files([_staged(place, one) for one in small]).digests if small else {}
    expected = Manifest({**known, **read}, sizes)
    _as_approved(source, expected, wanted.digest)


def _is(found: Manifest, digest: str) -> bool:
    """A model that is one file is approved by the file's own digest, or by that of a folder that holds it alone."""
    return digest in (found.digest, *(f"sha256:{one}" for one in found.digests.values() if len(found.digests) == 1))


def _as_approved(source: Source, found: Manifest, digest: str) -> None:
    if digest and not _is(found, digest):
        raise ModelRefused(
            f"{source.shown} is not the model that was approved: expected {digest}, found {found.digest} "
            f"({found.summary}); nothing was left at the destination"
        )


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
