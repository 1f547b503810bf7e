"""The Containerfile is one that hadolint passes, pinned by digest, and leaves nobody as root."""

from __future__ import annotations

import re
import subprocess
import sysconfig
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

RUNTIME = Path(__file__).parents[2] / "serving-runtime"
CONTAINERFILE = RUNTIME / "Containerfile"
LINES = CONTAINERFILE.read_text().replace("\\\n", " ").splitlines()
LOCKS = {
    "preload": (),
    "server": ("triton", "input-validation", "exporter"),
}


def _lint(text: str) -> subprocess.CompletedProcess[str]:
    hadolint = Path(sysconfig.get_path("scripts")) / "hadolint"
    return subprocess.run([str(hadolint), "-"], input=text, capture_output=True, text=True, timeout=60, check=False)


def test_hadolint_finds_nothing() -> None:
    done = _lint(CONTAINERFILE.read_text())
    assert done.returncode == 0, done.stdout


def test_hadolint_would_find_something() -> None:
    assert "DL3" in _lint(CONTAINERFILE.read_text() + "\nRUN apt-get install curl\n").stdout


def _stages() -> dict[str, list[str]]:
    stages: dict[str, list[str]] = {}
    for line in LINES:
        if line.startswith("FROM "):
            stages[line.split(" AS ")[1]] = []
        if stages:
            stages[next(reversed(stages))].append(line)
    return stages


def test_every_image_is_taken_by_a_digest_that_the_builder_must_give() -> None:
    for lines in _stages().values():
        assert re.match(r"FROM [\w./]+@\$\{(PYTHON|TRITON)_DIGEST\} AS ", lines[0])
    # With a default a build without the argument would go through.
    assert [line for line in LINES if line.startswith("ARG")] == ["ARG PYTHON_DIGEST", "ARG TRITON_DIGEST"]


@pytest.mark.parametrize("image", LOCKS)
def test_it_runs_as_an_ordinary_user_and_answers_the_injected_arguments(image: str) -> None:
    lines = _stages()[image]
    assert [line for line in lines if line.startswith("USER")] == ["USER 1000:1000"]
    # The webhook gives arguments ("preload", ...) and no command.
    assert 'ENTRYPOINT ["tidewaiter-runtime"]' in lines


@pytest.mark.parametrize("image", LOCKS)
def test_nothing_is_installed_or_built_in_what_is_shipped(image: str) -> None:
    assert not [line for line in _stages()[image] if line.startswith("RUN")]


def test_everything_from_the_package_index_is_held_to_hashes() -> None:
    for line in LINES:
        for command in re.findall(r"pip (?:--python=\S+ )?install[^&]*", line):
            assert "--require-hashes" in command or ("--no-index" in command and "--no-deps" in command), command


def test_every_copied_file_exists() -> None:
    for line in LINES:
        if line.startswith("COPY ") and "--from=" not in line:
            for source in line.split()[1:-1]:
                assert (RUNTIME / source).exists(), source


@pytest.mark.parametrize(("image", "extras"), LOCKS.items())
def test_the_lock_has_what_the_distribution_asks_for(image: str, extras: tuple[str, ...]) -> None:
    project = tomllib.loads((RUNTIME / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(one for extra in extras for one in project["optional-dependencies"][extra])]
    text = (RUNTIME / "locks" / f"{image}.txt").read_text()
    locked: dict[str, list[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.MULTILINE):
        locked.setdefault(canonicalize_name(name), []).append(version)
    missing = [
        one for one in map(Requirement, asked)
        if not any(one.specifier.contains(version) for version in locked.get(canonicalize_name(one.name), ()))
    ]  # fmt: skip
    assert not missing, f"make serving-runtime/locks/{image}.txt anew with uv pip compile"
