"""What lies in the way of a preloader, whoever put it there, neither ends it nor holds it up."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.serving_runtime.preloading import Preload, folder_digest

FILES = {"config.json": b"{}", "weights.bin": b"w" * 1000}
STAGING = ".tidewaiter-preload"


def _garbage(path: Path) -> None:
    path.write_bytes(b"{not json")


def _binary(path: Path) -> None:
    path.write_bytes(b"\xff\xfe" * 100)


def _outside(path: Path) -> None:
    path.write_text('["../../outside", "files"]')


def _deep(path: Path) -> None:
    path.write_text("[" * 100_000)


def _link(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("name", ["naming", "journal"])
@pytest.mark.parametrize("put", [_garbage, _binary, _outside, _deep, _link, os.mkfifo])
def test_what_an_earlier_run_left_broken_is_passed_over(tmp_path: Path, name: str, put: Callable[[Path], None]) -> None:
    source, destination = tmp_path / "source", tmp_path / "models"
    source.mkdir()
    for file, content in FILES.items():
        (source / file).write_bytes(content)
    (destination / STAGING / "files").mkdir(parents=True)
    put(destination / STAGING / name)

    done = Preload(tmp_path, destination, {})(f"file://{source}", f"--digest={folder_digest(FILES)}")

    assert done.code == 0, done.out
    assert {one.name: one.read_bytes() for one in destination.iterdir() if one.is_file()} == FILES
    assert not (tmp_path / "outside").exists()
