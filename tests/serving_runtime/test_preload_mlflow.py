"""Models in MLflow, from its own server, registered by its own client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.registries.servers import RealServer, mlflow_server
from tests.serving_runtime.model_server import Fault, ModelServer, model_server
from tests.serving_runtime.preloading import Preload, folder_digest

CLIENT = Path(__file__).parent / "mlflow_client.py"
FILES = {"MLmodel": b"flavors: {}\n", "data/größe & +1.bin": b"weights" * 100_000, "data/deep/er/x": b"x"}


@dataclass(frozen=True)
class Registered:
    """A version that MLflow's client has registered."""

    server: RealServer
    run: str
    version: str
    source: str


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registered]:
    folder = tmp_path_factory.mktemp("mlflow")
    for name, content in FILES.items():
        (folder / "model" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "model" / name).write_bytes(content)
    with mlflow_server(folder) as server:
        said = json.loads(server.client(CLIENT, server.url, "bert", str(folder / "model")).splitlines()[-1])
        yield Registered(server, said["run"], str(said["version"]), said["source"])


@pytest.fixture
def preload(tmp_path: Path, registered: Registered) -> Preload:
    return Preload(tmp_path, tmp_path / "models", {"MLFLOW_TRACKING_URI": registered.server.url})


@pytest.mark.parametrize(
    "source",
    ["models:/bert/{version}", "models:/bert@champion", "models://bert/{version}", "runs:/{run}/model", "{source}"],
)
def test_every_reference_of_mlflow_leads_to_the_files(preload: Preload, registered: Registered, source: str) -> None:
    uri = source.format(version=registered.version, run=registered.run, source=registered.source)
    done = preload(uri, f"--digest={folder_digest(FILES)}")

    assert done.code == 0, done.out
    assert {name: (preload.destination / name).read_bytes() for name in FILES} == FILES


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("models:/nothing/1", "404"),
        ("models:/bert/99", "404"),
        ("models:/bert@nobody", "400"),
        ("models:/bert/latest", "expected models:/NAME/VERSION, with a number"),
        ("runs:/0123456789abcdef0123456789abcdef/model", "404"),
        ("runs:/{run}/nothing", "MLflow has no files there"),
    ],
)
def test_a_wrong_name_is_told_at_once(preload: Preload, registered: Registered, source: str, told: str) -> None:
    done = preload(source.format(run=registered.run))

    assert done.code == 2, done.out
    assert told in done.termination
    assert "attempts" not in done.termination


def test_a_wrong_digest_leaves_nothing(preload: Preload, registered: Registered) -> None:
    done = preload(f"models:/bert/{registered.version}", f"--digest=sha256:{'0' * 64}")

    assert done.code == 1
    assert f"found {folder_digest(FILES)}" in done.termination
    assert preload.left == []


def test_without_a_server_it_is_told(preload: Preload) -> None:
    preload.variables.clear()
    done = preload("models:/bert/1")

    assert done.code == 2
    assert "MLFLOW_TRACKING_URI is ''; expected https://HOST of an MLflow server" in done.termination


@pytest.fixture
def played(tmp_path: Path) -> Iterator[tuple[Preload, ModelServer]]:
    """A server that answers as MLflow does not: a real one can't be told to."""
    with model_server() as server:
        yield Preload(tmp_path, tmp_path / "models", {"MLFLOW_TRACKING_URI": server.url}), server


def _says(server: ModelServer, uri: str) -> None:
    server.files["/api/2.0/mlflow/model-versions/get-download-uri"] = json.dumps({"artifact_uri": uri}).encode()


@pytest.mark.parametrize(
    ("uri", "code", "told"),
    [
        ("/var/run/secrets", 2, "let MLflow serve its artifacts"),
        ("file:///etc", 2, "let MLflow serve its artifacts"),
        ("mlflow-artifacts://elsewhere:5000/1/model", 2, "are on another server than MLFLOW_TRACKING_URI"),
        ("models:/bert/1", 1, "lead from one reference to the next"),
    ],
)
def test_mlflow_cannot_make_us_read_elsewhere(
    played: tuple[Preload, ModelServer], uri: str, code: int, told: str
) -> None:
    preload, server = played
    _says(server, uri)
    done = preload("models:/bert/1")

    assert done.code == code, done.out
    assert told in done.termination
    assert preload.left == []


def test_a_bucket_that_mlflow_names_is_read_as_a_bucket(played: tuple[Preload, ModelServer]) -> None:
    preload, server = played
    _says(server, "s3://models/bert")
    preload.variables |= {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    done = preload("models:/bert/1", "--attempts=1")

    assert done.code == 4
    assert "no connection to the store" in done.termination


def test_the_credential_is_sent_and_names_do_not_lead_out(played: tuple[Preload, ModelServer]) -> None:
    preload, server = played
    _says(server, "mlflow-artifacts:/1/model")
    listing = {"files": [{"path": "../../etc/passwd", "is_dir": False, "file_size": 1}]}
    server.files["/api/2.0/mlflow-artifacts/artifacts"] = json.dumps(listing).encode()
    preload.variables |= {"MLFLOW_TRACKING_USERNAME": "u", "MLFLOW_TRACKING_PASSWORD": "p"}
    done = preload("models:/bert/1")

    assert done.code == 1
    assert "is not a path below the model's folder" in done.termination
    assert {one.headers.get("authorization") for one in server.asked} == {"Basic dTpw"}


def test_a_cut_file_is_asked_for_from_its_start(played: tuple[Preload, ModelServer]) -> None:
    """MLflow's server knows no ranges."""
    preload, server = played
    _says(server, "mlflow-artifacts:/1/model")
    content = b"w" * (3 << 20)
    listing = {"files": [{"path": "w", "is_dir": False, "file_size": len(content)}]}
    server.files["/api/2.0/mlflow-artifacts/artifacts"] = json.dumps(listing).encode()
    path = "/api/2.0/mlflow-artifacts/artifacts/1/model/w"
    server.files[path] = content
    cuts = iter([1 << 20])
    server.fault = lambda asked: Fault(cut_after=next(cuts, None), ranges=False) if asked.path == path else None
    done = preload("models:/bert/1", f"--digest={folder_digest({'w': content})}")

    assert done.code == 0, done.out
    assert len(server.ranges(path)) == 2
