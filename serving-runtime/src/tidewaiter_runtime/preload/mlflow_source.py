"""A model of MLflow, by its REST interface: ``models:/NAME/VERSION``, ``runs:/RUN/PATH``, ``mlflow-artifacts:/PATH``.

MLflow says where the files of a version are: in its own store of artifacts, which its server hands out, or in a
bucket, which is then read as any bucket.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from tidewaiter_runtime.preload.source_files import Source, SourceFile
from tidewaiter_runtime.preload.source_uri import SourceUri, parse_source
from tidewaiter_runtime.preload.web_client import WebClient, body_of
from tidewaiter_runtime.preload.web_source import read_range
from tidewaiter_runtime.refusals import BadInput, ModelRefused

_API = "/api/2.0/mlflow"
_ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
_PROXIED = "mlflow-artifacts"
_LARGEST_ANSWER = 16 << 20
_MOST_FOLDERS, _MOST_FILES, _MOST_STEPS = 10_000, 100_000, 5
_LOGGED_MODEL = re.compile(r"m-[0-9a-f]{32}")


class MlflowSource:
    """``MLFLOW_TRACKING_URI`` names the server; the credential goes to no other."""

    def __init__(
        self,
        uri: SourceUri,
        client: WebClient,
        environment: Mapping[str, str],
        open_other: Callable[[SourceUri], Source],
    ) -> None:
        self.shown = uri.shown
        self._uri = uri
        self._client = client
        self._open_other = open_other
        self._other: Source | None = None
        self._server = environment.get("MLFLOW_TRACKING_URI", "").rstrip("/")
        if not self._server.startswith(("https://", "http://")):
            raise BadInput(
                f"{self.shown}: MLFLOW_TRACKING_URI is {self._server[:80]!r}; expected https://HOST of an MLflow server"
            )
        if urlsplit(self._server).username is not None:
            raise BadInput("MLFLOW_TRACKING_URI must not hold a user name; set MLFLOW_TRACKING_USERNAME")
        self._secret = _secret(environment)

    @property
    def revision(self) -> str:
        """MLflow has none."""
        return ""

    def files(self) -> list[SourceFile]:
        """All files below where MLflow says that the model is."""
        place = self._place(f"{self._uri.scheme}:/{self._uri.path}")
        if not place.startswith(f"{_PROXIED}:"):
            if not place.startswith(("s3://", "gs://")):  # a path would be one of this pod's own
                raise BadInput(f"{self.shown}: its files are at {place[:200]!r}; let MLflow serve its artifacts")
            self._other = self._open_other(parse_source(place))
            return self._other.files()
        parts = urlsplit(place)
        if parts.netloc and parts.netloc != urlsplit(self._server).netloc:
            raise BadInput(f"{self.shown}: its files are on another server than MLFLOW_TRACKING_URI: {parts.netloc}")
        return self._listed(parts.path.strip("/"))

    def read(self, file: SourceFile, start: int, end: int) -> Iterator[memoryview]:
        """See ``Source``; MLflow's server knows no ranges."""
        if self._other is not None:
            return self._other.read(file, start, end)
        return read_range(self._client, file, self.shown, start, end, secret=self._secret)

    def _place(self, uri: str) -> str:
        """Where the files are, as a URI that is no reference of MLflow's."""
        for _ in range(_MOST_STEPS):
            scheme, _, rest = uri.partition(":")
            path = rest.lstrip("/")
            if scheme == "models":
                uri = self._of_model(path)
            elif scheme == "runs":
                run, _, below = path.partition("/")
                uri = _joined(self._text("runs/get", {"run_id": run}, "run", "info", "artifact_uri"), below)
            else:
                return uri
        raise ModelRefused(f"{self.shown}: MLflow's answers lead from one reference to the next, and to no files")

    def _of_model(self, path: str) -> str:
        first, _, rest = path.partition("/")
        if _LOGGED_MODEL.fullmatch(first):
            answer = self._ask(f"{_API}/logged-models/{first}", {})
            return _joined(_dug(answer, self.shown, "model", "info", "artifact_uri"), rest)
        name, at, alias = path.partition("@")
        if at:
            asked = {"name": name, "alias": alias}
            version = self._text("registered-models/alias", asked, "model_version", "version")
        else:
            name, _, version = path.rpartition("/")
        if not name or not version.isdigit():
            raise BadInput(f"{self.shown}: expected models:/NAME/VERSION, with a number, or models:/NAME@ALIAS")
        asked = {"name": name, "version": version}
        return self._text("model-versions/get-download-uri", asked, "artifact_uri")

    def _listed(self, root: str) -> list[SourceFile]:
        folders, found, seen = [root], list[SourceFile](), 0
        while folders:
            folder, seen = folders.pop(), seen + 1
            answer = self._ask(_ARTIFACTS, {"path": folder})
            for one in answer.get("files") or ():
                path = _joined(folder, str(one.get("path", "")))
                if one.get("is_dir"):
                    folders.append(path)
                else:
                    found.append(self._file(path, root, one.get("file_size")))
            if seen > _MOST_FOLDERS or len(found) > _MOST_FILES:
                raise ModelRefused(f"{self.shown}: more than {_MOST_FILES:,} files or {_MOST_FOLDERS:,} folders")
        if not found:
            raise BadInput(f"{self.shown}: MLflow has no files there ({root!r})")
        return found

    def _file(self, path: str, root: str, size: Any) -> SourceFile:
        if not isinstance(size, int | str) or not str(size).isdigit():
            raise ModelRefused(f"{self.shown}: MLflow tells no size of {path!r}")
        location = f"{self._server}{_ARTIFACTS}/{quote(path)}"
        return SourceFile(path.removeprefix(root).lstrip("/"), location, int(size), ranges=False)

    def _text(self, call: str, asked: Mapping[str, str], *keys: str) -> str:
        return _dug(self._ask(f"{_API}/{call}", asked), self.shown, *keys)

    def _ask(self, path: str, asked: Mapping[str, str]) -> dict[str, Any]:
        url = f"{self._server}{path}{'?' if asked else ''}{urlencode(asked)}"
        answer = self._client.get(url, self.shown, {}, self._secret)
        try:
            document = json.loads(body_of(answer, self.shown, _LARGEST_ANSWER))
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise BadInput(
                f"{self.shown}: what answered is not MLflow: expected a JSON object; see MLFLOW_TRACKING_URI"
            )
        return document


def _secret(environment: Mapping[str, str]) -> str:
    if token := environment.get("MLFLOW_TRACKING_TOKEN", "").strip():
        return f"Bearer {token}"
    user, password = environment.get("MLFLOW_TRACKING_USERNAME", ""), environment.get("MLFLOW_TRACKING_PASSWORD", "")
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}" if user else ""


def _joined(first: str, second: str) -> str:
    return f"{first.rstrip('/')}/{second}" if first and second else first or second


def _dug(answer: Any, shown: str, *keys: str) -> str:
    for key in keys:
        answer = answer.get(key) if isinstance(answer, dict) else None
    if not isinstance(answer, str) or not answer:
        raise ModelRefused(f"{shown}: MLflow's answer has no {'.'.join(keys)}")
    return answer
