"""The runtime is a distribution of its own: its sources are not on the path of the webhook's tests."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[2] / "serving-runtime" / "src"
if str(SOURCES) not in sys.path:
    sys.path.insert(0, str(SOURCES))


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run of the command line ended."""

    code: int
    out: str
    err: str
    termination: str


class Runtime:
    """``tidewaiter-runtime``, with a termination log as a pod has it."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._log = folder / "termination-log"
        self._capsys = capsys

    def __call__(self, *arguments: str | Path) -> Ended:
        from tidewaiter_runtime.cli import main

        self._log.write_bytes(b"")
        with pytest.raises(SystemExit) as ended:
            main([*(str(one) for one in arguments), "--termination-log", str(self._log)])
        printed = self._capsys.readouterr()
        return Ended(int(ended.value.code or 0), printed.out, printed.err, self._log.read_text())


@pytest.fixture
def runtime(tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]) -> Runtime:
    return Runtime(tmp_path_factory.mktemp("pod"), capsys)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A small model whose names sort differently by bytes and by path parts."""
    folder = tmp_path / "resnet"
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "model.onnx").write_bytes(bytes(range(256)) * 5000)
    (folder / "1.txt").write_text("labels\n")
    (folder / "config.pbtxt").write_text('name: "resnet"\n')
    (folder / ".hidden").write_text("counts too\n")
    (folder / "größe.json").write_text("{}\n")
    return folder
