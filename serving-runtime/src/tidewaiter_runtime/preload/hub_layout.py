"""The cache layout of the Hugging Face hub: ``models--org--name/{blobs,refs,snapshots/<commit>}``.

Files of a snapshot are relative links to blobs. Whoever asks for no revision looks at
``refs/main``, so it names what was brought, whichever revision that was.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from tidewaiter_runtime.preload.ranged_download import written
from tidewaiter_runtime.preload.source_files import SourceFile
from tidewaiter_runtime.preload.staging import Staging
from tidewaiter_runtime.refusals import ModelRefused
from tidewaiter_runtime.verification.model_files import ModelFile

_MAIN = "main"


def folder_name(model: str) -> str:
    """What the hub's libraries call a model's folder."""
    return f"models--{model.replace('/', '--')}"


def name_snapshot(place: Staging, model: str, revision: str, commit: str, files: Sequence[SourceFile]) -> None:
    """Build the layout from the staged files, and give it its name in one step."""
    name = folder_name(model)
    root = place.folder / "hub" / name
    with written(place.destination):
        place.journal.unlink(missing_ok=True)  # from here on the files are no longer where it says
        shutil.rmtree(root, ignore_errors=True)
        (root / "blobs").mkdir(parents=True)
        for file in files:
            (place.files / file.name).replace(root / "blobs" / file.blob)
            link = root / "snapshots" / commit / file.name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to("/".join([".."] * (len(PurePosixPath(file.name).parts) + 1)) + f"/blobs/{file.blob}")
        for ref in {_MAIN, revision} - {commit}:
            (root / "refs" / ref).parent.mkdir(parents=True, exist_ok=True)
            (root / "refs" / ref).write_text(commit)
        root.rename(place.destination / name)


def snapshot_files(destination: Path, model: str, revision: str) -> list[ModelFile]:
    """The files of the snapshot that an earlier run named; raises ``ModelRefused`` where that is no such layout.

    A link counts only where it leads to one of the model's own blobs.
    """
    root = destination / folder_name(model)
    try:
        known = (root / "snapshots" / revision).is_dir()
        commit = revision if known else (root / "refs" / revision).read_text().strip()
        snapshot = root / "snapshots" / commit
        found = [one for one in snapshot.rglob("*") if not one.is_dir()]
        blobs = (root / "blobs").resolve()
        files = []
        for one in found:
            target = one.resolve(strict=True)
            if target.parent != blobs or not target.is_file():
                raise ModelRefused(f"{one} does not lead to a blob of {root}; remove it, or give an empty volume")
            files.append(ModelFile(one.relative_to(snapshot).as_posix(), target, target.stat().st_size))
    except (OSError, ValueError):
        files = []
    if not files:
        raise ModelRefused(f"{root} holds no snapshot of revision {revision!r}; remove it, or give an empty volume")
    return files
