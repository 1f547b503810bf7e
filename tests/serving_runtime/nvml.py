"""A ``libnvidia-ml.so.1`` of ours, compiled from ``fake_nvml.c``, which the real ``pynvml`` loads."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("fake_nvml.c")


def compile_nvml(folder: Path) -> Path:
    """The folder that has the library, for LD_LIBRARY_PATH."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler; install gcc, or `pip install ziglang` and set CC='python -m ziglang cc'")
    command = [*compiler.split(), "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([*command, "-o", str(folder / "libnvidia-ml.so.1"), str(SOURCE)], check=True, timeout=120)
    return folder


@pytest.fixture(scope="session")
def nvml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that has the library; give it to a process as LD_LIBRARY_PATH, with FAKE_NVML."""
    return compile_nvml(tmp_path_factory.mktemp("nvml"))
