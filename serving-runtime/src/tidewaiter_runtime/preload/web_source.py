"""One file from a web server."""

from __future__ import annotations

import re
from collections.abc import Iterator

import urllib3

from tidewaiter_runtime.preload.source_files import UNKNOWN_SIZE, SourceFile, SourceUnavailable
from tidewaiter_runtime.preload.source_uri import SourceUri
from tidewaiter_runtime.preload.web_client import WebClient, pieces
from tidewaiter_runtime.refusals import BadInput

_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+)")


class WebSource:
    """``https://``. A server that knows no ranges is asked for the whole, by one connection."""

    def __init__(self, uri: SourceUri, client: WebClient) -> None:
        self.shown = uri.shown
        self.revision = ""
        self._uri = uri
        self._client = client

    def files(self) -> list[SourceFile]:
        """Ask for the first byte: a signed URL often permits GET only."""
        answer = self._client.get(self._uri.url, self.shown, {"Range": "bytes=0-0"})
        answer.close()
        etag = answer.headers.get("ETag", "")
        version = "" if etag.startswith("W/") else etag
        found = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        if found is not None and answer.status in (206, 416):
            size, ranges = int(found[3]), True
        elif answer.status == 200:
            length = answer.headers.get("Content-Length", "")
            size, ranges = int(length) if length.isdigit() else UNKNOWN_SIZE, False
        else:
            raise BadInput(f"{self.shown}: the server answered {answer.status} without saying how large the file is")
        return [SourceFile(self._uri.path, self._uri.url, size, version, ranges)]

    def read(self, file: SourceFile, start: int, end: int) -> Iterator[memoryview]:
        """See ``Source``."""
        return read_range(self._client, file, self.shown, start, end, etag=file.version)


def read_range(
    client: WebClient, file: SourceFile, shown: str, start: int, end: int, *, etag: str = "", secret: str = ""
) -> Iterator[memoryview]:
    """A range of one file; refuses one of a file that has changed since it was listed."""
    whole = not file.ranges or (start, end) == (0, file.size)
    headers = {} if whole else {"Range": f"bytes={start}-{end - 1}"}
    answer = client.get(file.location, shown, headers, secret)
    return answered_range(answer, file, shown, start, end, whole=whole, etag=etag)


def answered_range(
    answer: urllib3.BaseHTTPResponse, file: SourceFile, shown: str, start: int, end: int, *, whole: bool, etag: str = ""
) -> Iterator[memoryview]:
    """The bytes of an answer, where it is the range that was asked for."""
    problem = _changed(answer.status, answer.headers.get("Content-Range", ""), file, start, end, whole=whole)
    if not problem and etag and answer.headers.get("ETag") != etag:
        problem = "its ETag is another"
    if problem:
        answer.close()
        raise SourceUnavailable(f"{shown}: file {file.name!r} was changed while it was brought: {problem}")
    return pieces(answer)


def _changed(status: int, content_range: str, file: SourceFile, start: int, end: int, *, whole: bool) -> str:
    if whole:
        return "" if status == 200 else f"the server answered {status} instead of the whole file"
    if status != 206:
        return f"the server answered {status} instead of a range"
    found = _CONTENT_RANGE.fullmatch(content_range)
    expected = (str(start), str(end - 1), str(file.size))
    return "" if found is not None and found.groups() == expected else f"the server sent {content_range[:80]!r}"
