"""What preloading costs beside ``curl`` and beside AWS's own library, from a real S3 server on this machine.

``python -m bench.preload`` prints a table, as measured here. Each row is whole processes, from start to end: the
median of the rounds, with the least and the most. ``curl`` makes one signed GET and boto3's ``download_file`` (what
``aws s3 cp`` does) brings ranges, with as many connections as preload; neither verifies anything. Memory is the
largest that the kernel has counted for the process (VmHWM), read until it ended.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.registries.servers import RealServer, s3_server

_ACCESS, _SECRET = "tidewaiter-bench", "not a secret at all"  # of a server that lives for minutes
_SOURCES = Path(__file__).parents[1] / "serving-runtime" / "src"
_CONNECTIONS = 8
_BLOCK = 64 << 20
_POLL_S = 0.02
_LIMIT_S = 900.0
_BOTO3 = """
import sys, boto3
from boto3.s3.transfer import TransferConfig
url, access, secret, key, path, connections = sys.argv[1:]
given = {"aws_access_key_id": access, "aws_secret_access_key": secret, "region_name": "us-east-1"}
client = boto3.client("s3", endpoint_url=url, **given)
client.download_file("models", key, path, Config=TransferConfig(max_concurrency=int(connections)))
"""


@dataclass
class Row:
    """One way to bring the model, and what each round took."""

    name: str
    command: Callable[[Path], Sequence[str]]
    checked: str = "nothing"
    seconds: list[float] = field(default_factory=list)
    peak: int = 0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.preload", description=__doc__)
    parser.add_argument("--mebibytes", type=int, default=2048, help="size of the model (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of each row (default: %(default)s)")
    parser.add_argument("--only", default="", help="rows whose name contains this (default: all)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tidewaiter-bench-") as scratch:
        folder, before = Path(scratch), os.getloadavg()[0]
        with s3_server(folder, _ACCESS, _SECRET) as server:
            rows = _rows(folder, server, options.mebibytes << 20, options.only)
            for _ in range(options.rounds):
                for row in rows:
                    _round(row, folder)
        _print(rows, options.mebibytes)
        after = os.getloadavg()[0]
        print(f"\nPython {sys.version.split()[0]}, load of the machine before {before:.1f}, after {after:.1f}")


def _rows(folder: Path, server: RealServer, size: int, only: str) -> list[Row]:
    bucket = folder / "buckets" / "models"
    (bucket / "plain").mkdir(parents=True)
    digest = _write_random(bucket / "plain" / "weights", size)
    (folder / "key").write_bytes(os.urandom(32))
    key = f"--key=file:{folder / 'key'}"

    def preload(path: str, *more: str) -> Callable[[Path], Sequence[str]]:
        arguments = [f"--source=s3://models/{path}", f"--connections={_CONNECTIONS}", *more]
        return lambda destination: [*_runtime("preload"), *arguments, f"--destination={destination}"]

    approved, cache = f"--digest={digest}", f"--cache={folder / 'cache'}"
    url = f"{server.url}/models/plain/weights"
    signed = ["--aws-sigv4", "aws:amz:us-east-1:s3", "--user", f"{_ACCESS}:{_SECRET}"]
    signed += ["-H", "x-amz-content-sha256: UNSIGNED-PAYLOAD"]
    boto3 = [str(server.python), "-c", _BOTO3, server.url, _ACCESS, _SECRET, "plain/weights"]
    rows = [
        Row("`curl`, one GET", lambda to: ["curl", "-sS", "--fail", *signed, "-o", str(to / "weights"), url]),
        Row("boto3 `download_file`", lambda to: [*boto3, str(to / "weights"), str(_CONNECTIONS)]),
        Row("`preload`, without a digest", preload("plain"), "nothing (hashed all the same)"),
        Row("`preload --digest`", preload("plain", approved), "the digest"),
        Row("`preload --digest --key`, sealed", preload("sealed", approved, key), "the digest, and every chunk"),
        Row("`preload --digest --cache`, a hit", preload("plain", approved, cache), "the digest"),
    ]
    rows = [row for row in rows if only in row.name]
    if any("--key" in row.name for row in rows):
        _run([*_runtime("seal"), str(bucket / "plain" / "weights"), str(bucket / "sealed"), key], folder)
    if any("--cache" in row.name for row in rows):
        _run(preload("plain", approved, cache)(folder / "first"), folder, _variables(server))
        shutil.rmtree(folder / "first")
    for row in rows:
        row.command = _with_variables(row.command, _variables(server))
    return rows


def _with_variables(
    command: Callable[[Path], Sequence[str]], variables: dict[str, str]
) -> Callable[[Path], Sequence[str]]:
    return lambda to: ["env", *(f"{name}={value}" for name, value in variables.items()), *command(to)]


def _variables(server: RealServer) -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": _ACCESS,
        "AWS_SECRET_ACCESS_KEY": _SECRET,
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": server.url,
        "PYTHONPATH": str(_SOURCES),
    }


def _runtime(command: str) -> list[str]:
    return [sys.executable, "-m", "tidewaiter_runtime", command]


def _write_random(path: Path, size: int) -> str:
    """Bytes that no layer can make smaller; returns their digest."""
    digest = hashlib.sha256()
    with path.open("wb") as stream:
        while size > 0:
            block = os.urandom(min(_BLOCK, size))
            digest.update(block)
            stream.write(block)
            size -= len(block)
    return f"sha256:{digest.hexdigest()}"


def _run(command: Sequence[str], folder: Path, variables: dict[str, str] | None = None) -> None:
    environment = {**os.environ, "PYTHONPATH": str(_SOURCES), **(variables or {})}
    with (folder / "output").open("wb") as output:
        subprocess.run(command, env=environment, stdout=output, stderr=output, timeout=_LIMIT_S, check=True)


def _round(row: Row, folder: Path) -> None:
    destination = folder / "destination"
    destination.mkdir()
    os.sync()  # what an earlier row wrote is not to be paid for by this one
    with (folder / "output").open("wb") as output:
        began = time.monotonic()
        process = subprocess.Popen(row.command(destination), stdout=output, stderr=output)
        while process.poll() is None:
            row.peak = max(row.peak, _high_water(process.pid))
            if time.monotonic() - began > _LIMIT_S:
                process.kill()
            time.sleep(_POLL_S)
        row.seconds.append(time.monotonic() - began)
    assert process.returncode == 0, (folder / "output").read_text()[-2000:]
    shutil.rmtree(destination)


def _high_water(pid: int) -> int:
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


def _print(rows: Sequence[Row], mebibytes: int) -> None:
    print(f"| {mebibytes:,} MiB, random bytes | seconds | MB/s | memory, MB | verified |\n|---|---:|---:|---:|---|")
    for row in rows:
        median = statistics.median(row.seconds)
        spread = f"{median:.1f} ({min(row.seconds):.1f} to {max(row.seconds):.1f})"
        speed = (mebibytes << 20) / median / 1e6
        print(f"| {row.name} | {spread} | {speed:,.0f} | {row.peak / 1e6:,.0f} | {row.checked} |")


if __name__ == "__main__":
    main()
