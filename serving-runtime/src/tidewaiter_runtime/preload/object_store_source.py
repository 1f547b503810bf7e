"""A model in a bucket of S3 or Google Cloud Storage: all objects below a prefix, or one object."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

import obstore
from obstore import exceptions
from obstore.store import GCSStore, S3Store

from tidewaiter_runtime.preload.source_files import Interrupted, SourceFile, SourceUnavailable
from tidewaiter_runtime.preload.source_uri import SourceUri
from tidewaiter_runtime.refusals import BadInput

if TYPE_CHECKING:
    from obstore import GetOptions
    from obstore.store import ClientConfig, RetryConfig

_PIECE = 1 << 20
_STATUS = re.compile(r"status(?: code)?:? (\d{3})")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_CONNECTION = re.compile(
    r"dns error|[Cc]onnection refused|[Cc]onnection reset|timed out|invalid peer certificate|unexpected EOF|end of file"
)
_MAY_PASS = (408, 429)
_DENIED = ("AccessDenied", "SignatureDoesNotMatch", "InvalidAccessKeyId", "ExpiredToken", "InvalidToken")
_S3_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
_S3_ENDPOINTS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")
_GOOGLE_CREDENTIALS = ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_KEY")
_RETRY: RetryConfig = {"max_retries": 0, "retry_timeout": timedelta(seconds=30)}  # we retry, with one limit


class ObjectStoreSource:
    """``s3://`` and ``gs://``. Without credentials in the environment the bucket is read anonymously:
    asking a metadata service that is not there takes minutes.
    """

    def __init__(self, uri: SourceUri, environment: Mapping[str, str]) -> None:
        self.shown = uri.shown
        self.revision = ""
        self._uri = uri
        names = _S3_CREDENTIALS if uri.scheme == "s3" else _GOOGLE_CREDENTIALS
        self._anonymous = not any(environment.get(name) for name in names)
        self._names = names
        client: ClientConfig = {
            "connect_timeout": "10s",
            "read_timeout": "30s",  # silence
            "timeout": "1800s",  # of one part, however slow
            "allow_http": any(environment.get(name, "").startswith("http://") for name in _S3_ENDPOINTS),
        }
        try:
            if uri.scheme == "s3":
                self._store: S3Store | GCSStore = S3Store(
                    uri.place, client_options=client, retry_config=_RETRY, skip_signature=self._anonymous
                )
            else:
                self._store = GCSStore(
                    uri.place, client_options=client, retry_config=_RETRY, skip_signature=self._anonymous
                )
        except (exceptions.BaseError, ValueError) as error:
            raise BadInput(f"{self.shown}: the settings of the store cannot be used: {_cause(error)}") from None

    def files(self) -> list[SourceFile]:
        """The objects below the prefix; where there are none, the object of that very name."""
        prefix = self._uri.path
        try:
            found = [
                SourceFile(one["path"][len(prefix) :].lstrip("/"), one["path"], one["size"], one["e_tag"] or "")
                for batch in obstore.list(self._store, prefix=prefix or None, chunk_size=1000)
                for one in batch
                if not one["path"].endswith("/") and one["path"] != prefix
            ]
            if not found and prefix:
                one = obstore.head(self._store, prefix)
                found = [SourceFile(prefix.rpartition("/")[2], prefix, one["size"], one["e_tag"] or "")]
        except (exceptions.BaseError, OSError, ValueError) as error:
            raise self._meaning(error, self.shown) from None
        if not found:
            raise BadInput(f"{self.shown}: the bucket is empty")
        return found

    def read(self, file: SourceFile, start: int, end: int) -> Iterator[memoryview]:
        """See ``Source``; the object must still have the ETag that was listed."""
        options: GetOptions = {"range": (start, end)}
        if file.version:
            options["if_match"] = file.version
        try:
            for piece in obstore.get(self._store, file.location, options=options).stream(min_chunk_size=_PIECE):
                yield memoryview(piece)
        except (exceptions.BaseError, OSError, ValueError) as error:
            raise self._meaning(error, f"{self.shown}: object {file.location!r}") from None

    def _meaning(self, error: Exception, shown: str) -> Exception:
        """What a failure of the store means for us."""
        if isinstance(error, exceptions.PreconditionError):
            return SourceUnavailable(f"{shown} was changed while it was brought")
        if isinstance(error, FileNotFoundError):
            return BadInput(f"{shown}: there is no such bucket, object or prefix: {_cause(error)}")
        denied = isinstance(error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError)
        if denied or _cause(error) in _DENIED:
            return BadInput(f"{shown}: access is denied: {self._credential(error)}")
        if "invalid peer certificate" in str(error):
            return BadInput(f"{shown}: the store's certificate is not trusted; see SSL_CERT_FILE")
        status = int(found[1]) if (found := _STATUS.search(str(error))) else 0
        if 300 <= status < 500 and status not in _MAY_PASS:
            return BadInput(f"{shown}: the store answered {_cause(error)}")
        return Interrupted(_cause(error))

    def _credential(self, error: Exception) -> str:
        if self._anonymous:
            return f"no credential was given ({_cause(error)}); set {self._names[0]}"
        return f"the credential is wrong or does not permit it ({_cause(error)})"


def _cause(error: BaseException) -> str:
    """The store's own code, else its status, else the innermost cause: one line, without a URL."""
    text = str(error)
    if found := _CODE.search(text):
        return found[1]
    if found := _STATUS.search(text):
        return f"status {found[1]}"
    if found := _CONNECTION.search(text):
        return f"no connection to the store: {found[0]}"
    lines = [line.strip() for line in text.partition("\n\nDebug source")[0].splitlines() if line.strip()]
    innermost = re.sub(r"https?://\S+", "the store", lines[-1] if lines else type(error).__name__)
    return innermost[:200]
