"""A binding file: which model version other files of evidence are about, by their SHA-256.

For files whose format has no room for it. Whoever measures writes it, in the same job.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from webhook.gate.binding import FILES_KEY, said_by
from webhook.gate.evidence import Format, Found

_SHA256 = re.compile(r"(sha256:)?([0-9a-f]{64})")


def _recognises(document: Any) -> bool:
    return isinstance(document, dict) and FILES_KEY in document


def _read(document: Mapping[str, Any]) -> Found:
    about = said_by(document)
    if not about.names_version:
        raise ValueError("it names no model version; give tidewaiter.dev/model and tidewaiter.dev/model-version")
    files = document[FILES_KEY]
    if not isinstance(files, dict) or not files:
        raise ValueError(f"{FILES_KEY}: expected an object of file names and their SHA-256")
    digests = set()
    for name, text in files.items():
        found = _SHA256.fullmatch(str(text))
        if found is None:
            raise ValueError(f"{FILES_KEY}: {str(name)[:80]!r} has no SHA-256 (64 hexadecimal digits)")
        digests.add(found[2])
    return Found(about=replace(about, files=frozenset(digests)))


FILE = Format("binding file", _recognises, _read)
