"""From a store to a server, and the server as a pod has it: not root, a root that is read-only."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tidewaiter_runtime

from tests.registries.servers import s3_server
from tests.serving_runtime.preloading import folder_digest
from tests.serving_runtime.serving import copied_models, run, serving
from tests.serving_runtime.tritonserver import MODELS
from tests.serving_runtime.tritonserver import locate as locate_tritonserver

_ACCESS, _SECRET = "tidewaiter-test", "not a secret at all"
_S3_CLIENT = Path(__file__).parents[1] / "registries" / "s3_client.py"
_SPEC = """
models:
- name: sum
  backend: python
  maxBatchSize: 16
  inputs: [{name: INPUT, type: FP32, dims: [-1], sample: [4]}]
  outputs: [{name: SUM, type: FP32, dims: [1]}]
"""
_POD = """
set -e
mount --bind "$1" /mnt
for kept in $3; do
  mkdir -p "$2${kept#/tmp}"
  mount --bind "$kept" "$2${kept#/tmp}"
done
mount --rbind "$2" /tmp
mount -t tmpfs -o size=256m shm /dev/shm
mount -o remount,bind,ro /
shift 3
exec unshare --user --map-user=1000 --map-group=1000 "$@"
"""
"""The model's folder at /mnt, a writable /tmp, a read-only root; uid 1000 without capabilities, and process 1."""


@pytest.fixture
def pod(tmp_path: Path) -> tuple[str, ...]:
    """The command that makes one; its /mnt is ``tmp_path/mnt``."""
    (tmp_path / "mnt").mkdir()
    (tmp_path / "tmp").mkdir()
    if shutil.which("unshare") is None:
        pytest.skip("unshare is missing; install util-linux")
    command = (
        *(
            "unshare",
            "--user",
            "--map-root-user",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "sh",
            "-c",
            _POD,
            "pod",
        ),
        *(str(tmp_path / "mnt"), str(tmp_path / "tmp"), " ".join(_in_tmp())),
    )
    tried = subprocess.run([*command, "true"], capture_output=True, text=True, timeout=30, check=False)
    if tried.returncode != 0:
        pytest.skip(f"this machine lets nobody make user and mount namespaces: {tried.stderr.strip()[:200]}")
    return command


def _in_tmp() -> list[str]:
    """What the server needs and a /tmp of its own would hide."""
    needed = {Path(sys.prefix), Path(tidewaiter_runtime.__file__).parents[2], locate_tritonserver().home}
    return [str(one) for one in sorted(needed) if one.is_relative_to("/tmp")]


def test_a_server_that_is_not_root_and_has_a_read_only_root_serves(tmp_path: Path, pod: tuple[str, ...]) -> None:
    repository, spec = copied_models(tmp_path / "mnt" / "models", "sum"), tmp_path / "spec.yaml"
    spec.write_text(_SPEC)
    assert run("configure", f"--spec={spec}", f"--repository={repository}").returncode == 0
    with serving(Path("/mnt/models"), "--drain-seconds=0", log=tmp_path / "log", allowed=(), before=pod) as one:
        one.wait_ready()
        assert one.triton.process.pid is not None
        (first,) = Path(f"/proc/{one.triton.process.pid}/task/{one.triton.process.pid}/children").read_text().split()
        status = Path(f"/proc/{first}/status").read_text()
        assert re.search(r"^NSpid:.*\t1$", status, re.MULTILINE)
        assert re.search(r"^CapEff:\t0+$", status, re.MULTILINE)
        assert one.triton.infer("sum", INPUT=("FP32", [1.0, 2.0])) == {"SUM": [3.0]}
        one.terminate()
        assert one.end() == 0, one.triton.process.log_tail()


def test_a_writable_root_and_a_small_shared_memory_are_refused(tmp_path: Path, pod: tuple[str, ...]) -> None:
    repository, spec = copied_models(tmp_path / "mnt" / "models", "sum"), tmp_path / "spec.yaml"
    spec.write_text(_SPEC)
    assert run("configure", f"--spec={spec}", f"--repository={repository}").returncode == 0
    loose = tuple(part.replace("mount -o remount,bind,ro /\n", "").replace("size=256m", "size=1m") for part in pod)
    with serving(Path("/mnt/models"), log=tmp_path / "log", allowed=(), before=loose) as one:
        assert one.end() == 2
        assert "the root file system is writable; set readOnlyRootFilesystem" in one.triton.log
        assert "/dev/shm has 1 MiB, and 1 instances of the Python backend want 64 MiB" in one.triton.log
        assert "runs as root" not in one.triton.log


def test_a_model_comes_from_a_store_and_is_verified_configured_and_served(tmp_path: Path) -> None:
    files = {"1/model.py": (MODELS / "sum" / "1" / "model.py").read_bytes()}
    digest, repository = folder_digest(files), tmp_path / "models"
    spec = tmp_path / "spec.yaml"
    spec.write_text(_SPEC)
    store = tmp_path / "store"
    store.mkdir()
    with s3_server(store, _ACCESS, _SECRET) as server:
        commands = [["create_bucket", {"Bucket": "models"}]]
        commands += [
            ["put_object", {"Bucket": "models", "Key": f"sum/{name}", "Body": body.decode()}]
            for name, body in files.items()
        ]
        server.client(_S3_CLIENT, server.url, _ACCESS, _SECRET, json.dumps(commands))
        brought = run(
            *("preload", "--source=s3://models/sum", f"--destination={repository / 'sum'}", f"--digest={digest}"),
            AWS_ACCESS_KEY_ID=_ACCESS,
            AWS_SECRET_ACCESS_KEY=_SECRET,
            AWS_REGION="us-east-1",
            AWS_ENDPOINT_URL=server.url,
        )
    assert brought.returncode == 0, brought.stderr
    verified = run("verify", f"--path={repository / 'sum'}", f"--digest={digest}")
    assert verified.returncode == 0, verified.stderr
    configured = run("configure", f"--spec={spec}", f"--repository={repository}")
    assert configured.returncode == 0, configured.stderr
    with serving(repository, "--model=sum", "--drain-seconds=0", log=tmp_path / "log") as one:
        one.wait_ready()
        assert one.triton.infer("sum", INPUT=("FP32", [20.0, 22.0])) == {"SUM": [42.0]}
        one.terminate()
        assert one.end() == 0
