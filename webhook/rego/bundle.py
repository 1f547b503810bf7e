"""The files in an OPA bundle."""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib

from admission.validator import PolicyError

_MAX_BYTES = 32 * 1024 * 1024
_MAX_FILES = 5_000


def bundle_files(name: str, content: bytes) -> dict[str, bytes]:
    """Content by path without leading slash; raises ``PolicyError`` where it is no bundle or too big."""
    found: dict[str, bytes] = {}
    try:
        # Unpacked first: tarfile takes the end of a half bundle for the end of its files.
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as packed:
            unpacked = packed.read(_MAX_BYTES + 1)
        if len(unpacked) > _MAX_BYTES:
            raise PolicyError(f"{name} is too big: at most {_MAX_BYTES >> 20} MiB unpacked")
        with tarfile.open(fileobj=io.BytesIO(unpacked), mode="r:") as archive:
            for member in archive:
                if not member.isfile():
                    continue
                if len(found) >= _MAX_FILES:
                    raise PolicyError(f"{name} is too big: at most {_MAX_FILES} files")
                reader = archive.extractfile(member)
                path = member.name.removeprefix("./").lstrip("/")
                if path in found:
                    raise PolicyError(f"{name} has {path} twice")
                found[path] = reader.read() if reader is not None else b""
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise PolicyError(f"{name} is no .tar.gz: {error}; make it with `opa build`") from None
    return found
