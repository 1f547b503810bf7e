"""A cache on a volume that pods share: several processes, killed ones, tampered entries, eviction."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.controlplane.certificates import Authority
from tests.controlplane.waiting import wait_until
from tests.serving_runtime.model_server import Asked, Fault, ModelServer, model_server
from tests.serving_runtime.preloading import LIMIT_S, Preload, Running, folder_digest, sha256

SIZE = 3 << 20
PROCESSES = 4


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def server(authority: Authority) -> Iterator[ModelServer]:
    with model_server(authority) as running:
        for number in range(6):
            running.files[f"/{number}"] = _content(number)
            running.etags[f"/{number}"] = f'"{number}"'
        yield running


def _content(number: int) -> bytes:
    return bytes([number]) * SIZE


@dataclass
class Pods:
    """Pods that share a volume; each has a folder of its own for the model."""

    folder: Path
    server: ModelServer
    authority: Authority
    started: int = 0

    @property
    def cache(self) -> Path:
        return self.folder / "shared"

    def pod(self) -> Preload:
        self.started += 1
        folder = self.folder / f"pod-{self.started}"
        folder.mkdir()
        return Preload(folder, folder / "models", {"SSL_CERT_FILE": str(self.authority.pair.certificate)})

    def arguments(self, number: int, *more: str) -> tuple[str, ...]:
        return (
            f"{self.server.url}/{number}",
            *(f"--digest={sha256(_content(number))}", f"--cache={self.cache}", "--cache-size=10Mi", *more),
        )

    def entry(self, number: int) -> Path:
        return self.cache / sha256(_content(number)).replace(":", "-")

    def brings(self, number: int, *more: str) -> str:
        """Run one pod to its end; returns what it printed."""
        pod = self.pod()
        done = pod(*self.arguments(number, *more))
        assert done.code == 0, done.out
        assert (pod.destination / str(number)).read_bytes() == _content(number)
        return done.out

    def asked(self, number: int) -> int:
        """How often the model itself was asked for."""
        return len(self.server.ranges(f"/{number}"))


@pytest.fixture
def pods(tmp_path: Path, server: ModelServer, authority: Authority) -> Pods:
    return Pods(tmp_path, server, authority)


def test_the_second_pod_asks_the_source_for_nothing(pods: Pods) -> None:
    first = pods.brings(1)
    pods.server.fault = lambda _: Fault(status=500)
    second = pods.brings(1)

    assert "from the cache" not in first
    assert "from the cache" in second
    assert pods.asked(1) == 1


def test_pods_that_start_at_once_bring_it_once(pods: Pods) -> None:
    hold = threading.Event()
    pods.server.fault = lambda asked: Fault(hold=hold) if asked.path == "/1" and asked.end != 1 else None
    with ExitStack() as stack:
        running = [stack.enter_context(pods.pod().start(*pods.arguments(1))) for _ in range(PROCESSES)]
        wait_until(lambda: pods.asked(1) and _waiting(running) == PROCESSES - 1, "the others to wait", LIMIT_S)
        hold.set()
        ends = [one.end() for one in running]

    assert [one.code for one in ends] == [0] * PROCESSES
    assert pods.asked(1) == 1


def _waiting(running: list[Running]) -> int:
    return sum("waiting for another process that uses sha256:" in one.out for one in running)


def test_when_the_holder_is_killed_a_waiting_pod_goes_on(pods: Pods) -> None:
    hold = threading.Event()
    pods.server.fault = lambda asked: Fault(hold=hold) if asked.path == "/1" and asked.end != 1 else None
    with pods.pod().start(*pods.arguments(1)) as holder:
        wait_until(lambda: pods.asked(1), "the holder to begin", LIMIT_S)
        with pods.pod().start(*pods.arguments(1)) as other:
            wait_until(lambda: _waiting([other]), "the other to wait", LIMIT_S)
            pods.server.fault = lambda _: None
            holder.process.kill()
            done = other.end()
        hold.set()

    assert done.code == 0, done.out
    assert pods.asked(1) == 2
    assert pods.entry(1).joinpath("model", "1").read_bytes() == _content(1)


@pytest.mark.parametrize("how", ["flip", "link", "add", "remove", "cut"])
def test_a_tampered_entry_is_found_and_filled_again(pods: Pods, how: str) -> None:
    pods.brings(1)
    model = pods.entry(1) / "model" / "1"
    if how == "flip":
        model.write_bytes(b"\x09" * SIZE)
    elif how == "cut":
        model.write_bytes(_content(1)[:-1])
    elif how == "add":
        (model.parent / "more.py").write_text("evil")
    else:
        model.unlink()
        if how == "link":
            model.symlink_to("/etc/passwd")
    out = pods.brings(1)

    assert "the cache does not hold what it should, and is filled again" in out
    assert pods.asked(1) == 2
    assert model.read_bytes() == _content(1)


def test_a_link_that_waits_for_us_to_write_is_not_followed(pods: Pods) -> None:
    target = pods.folder / "target"
    target.mkdir()
    pods.entry(1).mkdir(parents=True)
    (pods.entry(1) / "filling").symlink_to(target)
    pods.brings(1)

    assert not list(target.iterdir())
    assert (pods.entry(1) / "model" / "1").is_file()


def test_a_source_that_sends_something_else_fills_nothing(pods: Pods) -> None:
    pods.server.files["/1"] = b"evil"
    pod = pods.pod()
    done = pod(*pods.arguments(1))

    assert done.code == 1
    assert "expected sha256:" in done.termination
    assert not (pods.entry(1) / "model").exists()
    assert pod.left == []


def test_what_was_not_used_for_longest_is_evicted(pods: Pods) -> None:
    for number, age in ((1, 300), (2, 200), (3, 100)):
        pods.brings(number)
        used = pods.entry(number) / "used"
        os.utime(used, (used.stat().st_mtime - age,) * 2)
    os.utime(pods.entry(1) / "used")  # the oldest, but used just now
    out = pods.brings(4)

    assert f"evicted {sha256(_content(2))} from the cache" in out
    assert [pods.entry(number).exists() for number in (1, 2, 3, 4)] == [True, False, True, True]


@contextmanager
def _held(entry: Path) -> Iterator[None]:
    """As a pod that copies from it."""
    descriptor = os.open(entry / "lock", os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    try:
        yield
    finally:
        os.close(descriptor)


def test_what_is_in_use_is_not_evicted(pods: Pods) -> None:
    for number in (1, 2, 3):
        pods.brings(number)
    with _held(pods.entry(1)), _held(pods.entry(2)), _held(pods.entry(3)):
        out = pods.brings(4)

    assert "bringing it without the cache" in out
    assert "full of models that are in use" in out
    assert [pods.entry(number).joinpath("model").exists() for number in (1, 2, 3, 4)] == [True, True, True, False]


def test_a_model_larger_than_the_cache_goes_past_it(pods: Pods) -> None:
    assert "and the cache" in pods.brings(1, "--cache-size=1Mi")
    assert not (pods.entry(1) / "model").exists()


def test_what_a_killed_eviction_left_is_swept(pods: Pods) -> None:
    (pods.cache / ".gone-0123").mkdir(parents=True)
    (pods.cache / ".gone-0123" / "x").write_bytes(b"x")
    pods.brings(1)

    assert not (pods.cache / ".gone-0123").exists()


def test_a_cache_that_cannot_be_written_is_no_reason_to_fail(pods: Pods) -> None:
    pods.folder.joinpath("shared").write_text("a file")

    assert "bringing it without the cache" in pods.brings(1)


def test_a_cache_without_a_digest_is_refused(pods: Pods) -> None:
    done = pods.pod()(f"{pods.server.url}/1", f"--cache={pods.cache}")

    assert done.code == 2
    assert "--cache: models are kept by their approved digest; give --digest" in done.termination


def test_the_hubs_layout_comes_from_the_cache_too(pods: Pods) -> None:
    commit, files = "c" * 40, {"config.json": b"{}", "model.safetensors": b"w" * 1000}
    with model_server() as hub, model_server() as cdn:
        hub.publish_on_hub("org/bert", commit, files, ("model.safetensors",), cdn)
        arguments = ("hf://org/bert@v1", f"--digest={folder_digest(files)}", f"--cache={pods.cache}", "--layout=hub")
        first, second = pods.pod(), pods.pod()
        for pod in (first, second):
            pod.variables["HF_ENDPOINT"] = hub.url
        ends = [first(*arguments)]
        before = len(cdn.asked)
        ends.append(second(*arguments))

    assert [one.code for one in ends] == [0, 0], ends[1].out
    assert len(cdn.asked) == before
    snapshot = second.destination / "models--org--bert" / "snapshots" / commit
    assert {name: (snapshot / name).read_bytes() for name in files} == files
    assert (second.destination / "models--org--bert" / "refs" / "v1").read_text() == commit


def test_a_killed_fill_is_gone_on_with(pods: Pods) -> None:
    """The cache's own folder keeps the parts that were complete."""
    content = os.urandom(40 << 20)
    pods.server.files["/big"] = content
    hold = threading.Event()

    def held(asked: Asked) -> Fault | None:
        return Fault(hold=hold) if asked.path == "/big" and asked.start == 32 << 20 else None

    pods.server.fault = held
    arguments = (f"{pods.server.url}/big", f"--digest={sha256(content)}", f"--cache={pods.cache}")
    journal = pods.cache / sha256(content).replace(":", "-") / "filling" / ".tidewaiter-preload" / "journal"
    with pods.pod().start(*arguments) as holder:
        wait_until(lambda: journal.exists() and journal.read_text().count("\n") == 2, "the first part", LIMIT_S)
        holder.process.kill()
        holder.process.wait(10)
    hold.set()
    pods.server.fault = lambda _: None
    before = len(pods.server.ranges("/big"))
    done = pods.pod()(*arguments)

    assert done.code == 0, done.out
    assert pods.server.ranges("/big")[before:] == [(32 << 20, 40 << 20)]


def test_a_holder_that_never_lets_go_is_not_waited_for_without_end(tmp_path: Path) -> None:
    """As on a node that hangs: the process lives, and so does its lock."""
    from tidewaiter_runtime.preload.shared_cache import CacheUnusable, SharedCache

    cache, told = SharedCache(tmp_path, 1 << 20, wait_s=0), list[str]()
    digest = sha256(b"x")
    entry = tmp_path / digest.replace(":", "-")
    entry.mkdir()
    (entry / "lock").touch()
    descriptor = os.open(entry / "lock", os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        with (
            pytest.raises(CacheUnusable, match="was not let go of"),
            cache.hold(digest, lambda _: None, lambda: told.append("waiting")),
        ):
            pytest.fail("it was held")
    finally:
        os.close(descriptor)
    assert told == ["waiting"]


def test_a_volume_without_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tidewaiter_runtime.preload.shared_cache import CacheUnusable, SharedCache

    def refuse(*_: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", refuse)
    with (
        pytest.raises(CacheUnusable, match="cannot be locked: No locks available; use a volume with locks"),
        SharedCache(tmp_path, 1).hold(sha256(b"x"), lambda _: None, lambda: None),
    ):
        pytest.fail("it was held")
