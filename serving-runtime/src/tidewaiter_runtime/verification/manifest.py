"""The manifest of a model, and its digest.

The manifest is a text: a line for each file, ``<sha256 in hex><two spaces><name><newline>``,
sorted by the bytes of the names. This is what ``sha256sum`` prints. The digest of a folder
is the SHA-256 of this text; that of a single file is the SHA-256 of its bytes.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath

from tidewaiter_runtime.refusals import BadInput, ModelRefused, Unreadable
from tidewaiter_runtime.verification.model_files import ModelFile

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
ALONE = "."
"""The name of a model that is one file."""
_CHUNK = 1 << 20
_LINE = re.compile(r"([0-9a-f]{64})  (.+)")


@dataclass(frozen=True, slots=True)
class Manifest:
    """SHA-256 in hex by file name. ``sizes`` are for people: no digest contains them."""

    digests: dict[str, str]
    sizes: dict[str, int]

    @property
    def text(self) -> bytes:
        """What is hashed, and what ``--manifest`` reads."""
        lines = [f"{self.digests[name]}  {name}\n".encode() for name in _sorted(self.digests)]
        return b"".join(lines)

    @property
    def digest(self) -> str:
        """The digest of the whole model, with its algorithm."""
        if set(self.digests) == {ALONE}:
            return f"sha256:{self.digests[ALONE]}"
        return f"sha256:{hashlib.sha256(self.text).hexdigest()}"

    @property
    def oms_root(self) -> str:
        """The root digest that an OpenSSF model signature has for the same files.

        It covers the files' digests in the order of their names, but not the names.
        """
        ordered = sorted(self.digests, key=lambda name: PurePosixPath(name).parts)
        return f"sha256:{hashlib.sha256(b''.join(bytes.fromhex(self.digests[one]) for one in ordered)).hexdigest()}"

    @property
    def summary(self) -> str:
        """How much it is, for a sentence."""
        count = len(self.digests)
        return f"{count} file{'s' if count != 1 else ''}, {sum(self.sizes.values()):,} bytes"


def _sorted(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: name.encode())


def hash_files(files: Iterable[ModelFile], workers: int = 0) -> Manifest:
    """Read every file once, several at a time, a mebibyte each in memory; 0 workers: one for each CPU, at most 8."""
    ordered = sorted(files, key=lambda one: -one.size)  # the largest first: it takes longest
    workers = workers or min(8, len(os.sched_getaffinity(0)))
    with ThreadPoolExecutor(min(workers, len(ordered)) or 1, thread_name_prefix="hash") as pool:
        digests = list(pool.map(hash_file, ordered))
    names = [one.name for one in ordered]
    return Manifest(dict(zip(names, digests, strict=True)), {one.name: one.size for one in ordered})


def hash_file(file: ModelFile) -> str:
    """SHA-256 in hex of one regular file that stays as it is meanwhile."""
    try:
        descriptor = os.open(file.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with io.FileIO(descriptor) as stream:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ModelRefused(f"{file.path} is no longer a regular file: it was changed while it was read")
            digest, size, buffer = hashlib.sha256(), 0, bytearray(_CHUNK)
            view = memoryview(buffer)
            while count := stream.readinto(buffer):
                digest.update(view[:count])
                size += count
    except OSError as error:
        raise Unreadable(f"{file.path} cannot be read: {error.strerror}") from None
    if size != file.size:
        raise ModelRefused(
            f"{file.path} was changed while it was read: expected {file.size:,} bytes, found {size:,}; "
            "let nothing write to the model while it is verified"
        )
    return digest.hexdigest()


def parse_manifest(text: str, source: str) -> Manifest:
    """Read what ``digest --format manifest`` wrote."""
    digests: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        found = _LINE.fullmatch(line)
        if found is None:
            raise BadInput(
                f"{source}:{number}: found {line[:80]!r}; expected 64 hex digits, two spaces and a file name"
            )
        if found[2] in digests:
            raise BadInput(f"{source}:{number}: file {found[2]!r} stands there twice")
        digests[found[2]] = found[1]
    if not digests:
        raise BadInput(f"{source} is empty; expected a line for each file of the model")
    return Manifest(digests, {})


def parse_digest(text: str) -> str:
    """A digest as an argument; raises ``BadInput``."""
    if not DIGEST.fullmatch(text):
        raise BadInput(f"--digest: found {text[:80]!r}; expected sha256: and 64 lower-case hex digits")
    return text
