"""Seals a model: the counterpart of what ``preload --key`` opens."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tidewaiter_runtime.preload.ranged_download import written
from tidewaiter_runtime.refusals import BadInput, ModelRefused, Unreadable
from tidewaiter_runtime.sealing.key_wrapping import WrappingKey
from tidewaiter_runtime.sealing.seal_envelope import ENVELOPE, Envelope, SealedFile, close_envelope
from tidewaiter_runtime.sealing.sealed_chunks import CHUNK, KEY_BYTES, count_of, file_key, seal_chunk
from tidewaiter_runtime.verification.manifest import ALONE
from tidewaiter_runtime.verification.model_files import ModelFile, list_model_files


def seal(model: Path, output: Path, by: WrappingKey, chunk: int = CHUNK) -> Envelope:
    """Write the sealed model to ``output``, which must not exist; it gets its name when it is complete."""
    if output.exists() or output.is_symlink():
        raise BadInput(f"{output} is there already; give the name of a new folder")
    files = sorted(list_model_files(model), key=lambda one: one.name.encode())
    key, staging = os.urandom(KEY_BYTES), output.with_name(f".{output.name}.sealing")
    with written(staging):
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
    try:
        sealed = [
            _seal_file(one, model, f"{number:06}.sealed", staging, key, chunk) for number, one in enumerate(files)
        ]
        envelope = Envelope(key, chunk, tuple(sealed))
        text = close_envelope(envelope, by)
        with written(output):
            (staging / ENVELOPE).write_bytes(text)
            staging.rename(output)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return envelope


def _seal_file(file: ModelFile, model: Path, stored: str, folder: Path, key: bytes, chunk: int) -> SealedFile:
    name = model.name if file.name == ALONE else file.name
    salt, digest = os.urandom(32), hashlib.sha256()
    cipher, count = AESGCM(file_key(key, name, salt)), count_of(file.size, chunk)
    try:
        descriptor = os.open(file.path, os.O_RDONLY | os.O_NOFOLLOW)
        with open(descriptor, "rb") as stream:  # noqa: PTH123  # a descriptor that followed no link
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ModelRefused(f"{file.path} is no longer a regular file")
            with written(folder / stored), (folder / stored).open("xb") as out:
                for number in range(count):
                    plain = stream.read(chunk)
                    if len(plain) != min(chunk, file.size - number * chunk) or (number == count - 1 and stream.read(1)):
                        raise ModelRefused(f"{file.path} was changed while it was sealed; let nothing write to it")
                    digest.update(plain)
                    out.write(seal_chunk(cipher, number, plain, last=number == count - 1))
    except OSError as error:
        raise Unreadable(f"{file.path} cannot be read: {error.strerror}") from None
    return SealedFile(name, file.size, digest.hexdigest(), salt, stored)
