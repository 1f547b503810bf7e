"""Building into the cache: whole or not at all, and once."""

import sys
from pathlib import Path

import pytest

from tests.controlplane.binaries import locate
from tests.controlplane.build_cache import BuildError, cache_directory, cached, run_step


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEWAITER_CACHE", str(tmp_path / "cache"))


def test_an_entry_is_built_once() -> None:
    builds: list[Path] = []

    def build(staging: Path) -> None:
        builds.append(staging)
        (staging / "tool").touch()

    first, second = cached("tool-v1", build), cached("tool-v1", build)

    assert first == second == cache_directory() / "tool-v1"
    assert (first / "tool").exists()
    assert len(builds) == 1


def test_an_interrupted_build_leaves_nothing_that_looks_complete() -> None:
    def interrupted(staging: Path) -> None:
        (staging / "tool").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached("tool-v1", interrupted)

    assert [path.name for path in cache_directory().iterdir()] == ["tool-v1.lock"]


def test_a_failed_step_names_its_log(tmp_path: Path) -> None:
    cache_directory().mkdir()
    command = [sys.executable, "-c", "raise SystemExit('no such module')"]

    with pytest.raises(BuildError, match=r"exit status 1: read .*tool-v1\.log") as failure:
        run_step("building tool v1", "tool-v1", command, cwd=tmp_path)

    assert "\n" not in str(failure.value)
    assert "no such module" in (cache_directory() / "tool-v1.log").read_text()


def test_a_cache_that_cannot_be_made_is_said_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TIDEWAITER_CACHE", str(tmp_path / "file" / "cache"))

    with pytest.raises(BuildError, match="set TIDEWAITER_CACHE"):
        cached("tool-v1", Path.touch)


def test_envtest_binaries_are_used_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    provided = tmp_path / "kube-apiserver"
    provided.touch(mode=0o755)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))

    assert locate("kube-apiserver") == provided
