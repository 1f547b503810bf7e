"""Files and folders of evidence, each file recognised by what is in it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from webhook.gate.evidence import Evidence, EvidenceError, Format
from webhook.gate.formats import FORMATS

_LARGEST = 64 << 20
_SUFFIXES = {".json", ".csv", ".md", ".markdown", ".pbtxt", ".textproto", ".txt"}


@dataclass(slots=True)
class Reading:
    """What was read. ``skipped`` are files of folders that no format knows."""

    evidence: list[Evidence] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


def read_evidence(paths: Sequence[Path]) -> Reading:
    """Every file, and those below each folder; raises ``EvidenceError`` with a sentence for each problem.

    A file that was named must be of a known format; one that was found in a folder may be
    something else, and is then named as skipped.
    """
    reading = Reading()
    problems: list[str] = []
    for path, named in _files(paths, problems):
        try:
            evidence = _evidence(path)
        except EvidenceError as error:
            problems.append(str(error))
            continue
        if evidence is not None:
            reading.evidence.append(evidence)
        elif named:
            names = ", ".join(dict.fromkeys(one.name for one in FORMATS))
            problems.append(f"{path}: none of the known formats: {names}")
        else:
            reading.skipped.append(str(path))
    if problems:
        raise EvidenceError("\n".join(problems))
    return reading


def _files(paths: Sequence[Path], problems: list[str]) -> list[tuple[Path, bool]]:
    """Each file once, and whether it was named itself."""
    files: dict[Path, bool] = {}
    for path in paths:
        if path.is_dir():
            for found in sorted(path.rglob("*")):
                if found.is_file() and found.suffix.lower() in _SUFFIXES:
                    files.setdefault(found, False)
        elif path.is_file():
            files[path] = True
        else:
            problems.append(f"{path}: there is no such file or folder; name the files that the pipeline's tools wrote")
    return list(files.items())


def _evidence(path: Path) -> Evidence | None:
    try:
        with path.open("rb") as stream:
            content = stream.read(_LARGEST + 1)
        modified = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except OSError as error:
        raise EvidenceError(f"{path} cannot be read: {error.strerror}") from None
    if len(content) > _LARGEST:
        raise EvidenceError(f"{path} is larger than {_LARGEST:,} bytes")
    document, known = _recognised(content, path)
    if known is None:
        return None
    try:
        found = known.read(document)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise EvidenceError(f"{path} looks like {known.name}, but {reason}") from None
    digest = hashlib.sha256(content).hexdigest()
    return Evidence(str(path), known.name, digest, found.made or modified, found.made is not None, found)


def _recognised(content: bytes, path: Path) -> tuple[Any, Format | None]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None, None
    is_json = text.lstrip()[:1] in ("{", "[") or path.suffix.lower() == ".json"
    document: Any = _parsed(text, path) if is_json else text
    for known in FORMATS:
        if known.is_text != is_json and known.recognises(document):
            return document, known
    return document, None


def _parsed(text: str, path: Path) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise EvidenceError(f"{path}:{error.lineno}: this is not JSON: {error.msg}") from None
    except (ValueError, RecursionError):
        raise EvidenceError(f"{path}: this JSON is nested too deeply, or has a number that is too long") from None
