"""A sealed model, opened while it is brought: ranges of plain bytes are made from whole chunks of sealed ones.

So everything else stays as it is: parts, going on after a cut, the journal, disk space, all in plain bytes, and
nothing sealed ever lies on the destination.
"""

from __future__ import annotations

from collections.abc import Iterator

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tidewaiter_runtime.preload.source_files import Interrupted, Source, SourceFile, read_small
from tidewaiter_runtime.refusals import BadInput, ModelRefused, listed
from tidewaiter_runtime.sealing.key_wrapping import WrappingKey
from tidewaiter_runtime.sealing.seal_envelope import ENVELOPE, LARGEST_ENVELOPE, SealedFile, open_envelope
from tidewaiter_runtime.sealing.sealed_chunks import TAG_BYTES, NotOpened, count_of, file_key, open_chunk, sealed_size
from tidewaiter_runtime.verification.model_files import is_ignored


class SealedSource:
    """Any source whose files ``seal`` wrote."""

    def __init__(self, inner: Source, by: WrappingKey) -> None:
        self.shown = inner.shown
        self._inner = inner
        self._by = by
        self._chunk = 0
        self._opened: dict[str, tuple[SourceFile, SealedFile, AESGCM]] = {}

    @property
    def revision(self) -> str:
        """That of the source."""
        return self._inner.revision

    def files(self) -> list[SourceFile]:
        """The plain files, as the envelope lists them; each must be there, and no other."""
        stored = {one.name: one for one in self._inner.files()}
        if ENVELOPE not in stored:
            raise BadInput(f"{self.shown} is not sealed: it has no {ENVELOPE}; leave --key out")
        envelope = open_envelope(read_small(self._inner, stored.pop(ENVELOPE), LARGEST_ENVELOPE), self._by, self.shown)
        beside = [one for one in stored.values() if is_ignored(one.name)]
        self._chunk = envelope.chunk
        problems = sorted(set(stored) - {one.stored for one in envelope.files} - {one.name for one in beside})
        problems = [f"{name!r} is in no envelope" for name in problems]
        found = []
        for one in envelope.files:
            where = stored.get(one.stored)
            expected = sealed_size(one.size, envelope.chunk)
            if where is None or where.size != expected:
                size = "is missing" if where is None else f"has {where.size:,} bytes, expected {expected:,}"
                problems.append(f"{one.stored!r} (file {one.name!r}) {size}")
                continue
            self._opened[one.name] = (where, one, AESGCM(file_key(envelope.key, one.name, one.salt)))
            found.append(
                SourceFile(one.name, one.name, one.size, f"{where.version} {one.salt.hex()}", where.ranges, one.sha256)
            )
        if problems:
            raise ModelRefused(f"{self.shown} is not as it was sealed: {listed(problems)}")
        return [*found, *beside]

    def read(self, file: SourceFile, start: int, end: int) -> Iterator[memoryview]:
        """See ``Source``: asks for the chunks that the range touches, and opens one after the other."""
        if file.name not in self._opened:
            yield from self._inner.read(file, start, end)
            return
        where, sealed, cipher = self._opened[file.name]
        chunks, step = count_of(sealed.size, self._chunk), self._chunk + TAG_BYTES
        first = start // self._chunk
        stop = min(count_of(end, self._chunk) * step, where.size)
        number, skip = first, start - first * self._chunk
        for content in self._chunks(self._inner.read(where, first * step, stop), stop - first * step):
            plain = self._open(cipher, sealed, number, content, last=number == chunks - 1)
            yield memoryview(plain)[skip : end - number * self._chunk]
            number, skip = number + 1, 0

    def _chunks(self, pieces: Iterator[memoryview], expected: int) -> Iterator[bytes]:
        step, held = self._chunk + TAG_BYTES, bytearray()
        for piece in pieces:
            held += piece
            while len(held) >= step and expected >= step:
                yield bytes(memoryview(held)[:step])
                del held[:step]
                expected -= step
        if len(held) < expected:
            raise Interrupted(f"the connection ended {expected - len(held):,} bytes too early")
        if held:
            yield bytes(held)

    def _open(self, cipher: AESGCM, sealed: SealedFile, number: int, content: bytes, *, last: bool) -> bytes:
        try:
            return open_chunk(cipher, number, content, last=last)
        except NotOpened:
            raise ModelRefused(
                f"{self.shown}: file {sealed.name!r} (stored as {sealed.stored!r}) was changed since it was sealed: "
                f"chunk {number} does not open"
            ) from None
