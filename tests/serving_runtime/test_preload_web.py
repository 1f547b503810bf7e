"""Preloading over HTTPS, from a server that cuts, holds, lies and changes."""

from __future__ import annotations

import random
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from admission.preloading import PreloadSettings
from tests.controlplane.certificates import Authority
from tests.controlplane.waiting import wait_until
from tests.serving_runtime.model_server import Asked, Fault, ModelServer, model_server
from tests.serving_runtime.preloading import STAGING, Preload, folder_digest, sha256

PART = 32 << 20
PATH = "/org/model.safetensors"
NAME = "model.safetensors"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def weights() -> bytes:
    """Three parts, the last one small."""
    return random.Random(7).randbytes(2 * PART + 12345)  # noqa: S311  # the same bytes each time


@pytest.fixture
def server(authority: Authority, weights: bytes) -> Iterator[ModelServer]:
    with model_server(authority) as running:
        running.files[PATH] = weights
        running.etags[PATH] = '"first"'
        yield running


@pytest.fixture
def preload(tmp_path: Path, authority: Authority) -> Preload:
    return Preload(tmp_path, tmp_path / "models", {"SSL_CERT_FILE": str(authority.pair.certificate)})


def _small(server: ModelServer, content: bytes = b"weights") -> str:
    server.files[PATH] = content
    return server.url + PATH


def test_the_arguments_that_the_mutator_writes_are_those_that_are_read(server: ModelServer, preload: Preload) -> None:
    values = {"source": _small(server), "layout": "files", "digest": sha256(b"weights")}
    written = [one.format(destination=preload.destination, **values) for one in PreloadSettings().arguments]
    assert written[:3] == ["preload", f"--source={server.url}{PATH}", f"--destination={preload.destination}"]

    done = preload(server.url + PATH, *written[3:])

    assert done.code == 0, done.out
    assert preload.left == [NAME]


def test_a_file_comes_in_parts_that_are_asked_for_once(server: ModelServer, preload: Preload, weights: bytes) -> None:
    done = preload(server.url + PATH, f"--digest={sha256(weights)}")

    assert done.code == 0, done.out
    assert (preload.destination / NAME).read_bytes() == weights
    assert preload.left == [NAME]
    assert sorted(server.ranges(PATH)) == [(0, PART), (PART, 2 * PART), (2 * PART, len(weights))]


def test_the_digest_of_a_folder_that_holds_the_file_alone_counts_too(server: ModelServer, preload: Preload) -> None:
    assert preload(_small(server), f"--digest={folder_digest({NAME: b'weights'})}").code == 0
    assert preload.left == [NAME]


def test_a_model_that_is_there_is_not_asked_for_again(server: ModelServer, preload: Preload) -> None:
    digest = f"--digest={sha256(b'weights')}"
    preload(_small(server), digest)
    server.asked.clear()
    done = preload(server.url + PATH, digest)

    assert done.code == 0
    assert "was there already" in done.out
    assert server.asked == []
    assert preload.left == [NAME]


def test_tampered_bytes_leave_nothing_and_say_which_digest_was_found(
    server: ModelServer, preload: Preload, weights: bytes
) -> None:
    server.files[PATH] = weights[:-1] + bytes([weights[-1] ^ 1])
    done = preload(server.url + PATH, f"--digest={sha256(weights)}")

    assert done.code == 1
    assert f"is not the model that was approved: expected {sha256(weights)}" in done.termination
    assert preload.left == []


def test_another_model_at_the_destination_is_neither_replaced_nor_accepted(
    server: ModelServer, preload: Preload
) -> None:
    preload.destination.mkdir()
    (preload.destination / NAME).write_bytes(b"mine")
    done = preload(_small(server), f"--digest={sha256(b'weights')}")

    assert done.code == 1
    assert "holds another model already" in done.termination
    assert (preload.destination / NAME).read_bytes() == b"mine"
    assert preload.left == [NAME]


def test_a_connection_cut_in_the_middle_goes_on_at_the_byte_where_it_stopped(
    server: ModelServer, preload: Preload, weights: bytes
) -> None:
    server.fault = lambda asked: Fault(cut_after=3 << 20) if asked.start == PART else None
    done = preload(server.url + PATH, f"--digest={sha256(weights)}")

    assert done.code == 0, done.out
    assert (PART + (3 << 20), 2 * PART) in server.ranges(PATH)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 128 + 15)])
def test_a_killed_run_is_gone_on_with(
    server: ModelServer, preload: Preload, weights: bytes, number: signal.Signals, code: int
) -> None:
    held = threading.Event()
    server.fault = lambda asked: Fault(hold=held) if asked.start == PART else None
    journal = preload.destination / STAGING / "journal"
    with preload.start(server.url + PATH, f"--digest={sha256(weights)}") as running:
        wait_until(lambda: journal.exists() and journal.read_text().count("\n") == 3, "two parts of three")
        assert preload.left[0].startswith(STAGING)
        assert NAME not in preload.left
        running.process.send_signal(number)
        assert running.end().code == code
    held.set()
    server.fault = lambda _: None
    server.asked.clear()
    done = preload(server.url + PATH, f"--digest={sha256(weights)}")

    assert done.code == 0, done.out
    assert "going on with" in done.out
    assert server.ranges(PATH) == [(PART, 2 * PART)]
    assert (preload.destination / NAME).read_bytes() == weights
    assert preload.left == [NAME]


def test_what_a_killed_run_brought_counts_no_more_where_the_file_has_changed(
    server: ModelServer, preload: Preload, weights: bytes
) -> None:
    held = threading.Event()
    server.fault = lambda asked: Fault(hold=held) if asked.start == PART else None
    journal = preload.destination / STAGING / "journal"
    with preload.start(server.url + PATH) as running:
        wait_until(lambda: journal.exists() and journal.read_text().count("\n") == 3, "two parts of three")
        running.process.kill()
        running.end()
    held.set()
    server.fault = lambda _: None
    server.asked.clear()
    server.files[PATH], server.etags[PATH] = weights[::-1], '"second"'
    done = preload(server.url + PATH, f"--digest={sha256(weights[::-1])}")

    assert done.code == 0, done.out
    assert len(server.ranges(PATH)) == 3


def test_two_at_once_bring_the_model_once(server: ModelServer, preload: Preload, weights: bytes) -> None:
    held = threading.Event()
    server.fault = lambda asked: Fault(hold=held) if asked.start == PART else None
    digest = f"--digest={sha256(weights)}"
    with preload.start(server.url + PATH, digest) as first:
        wait_until(lambda: (PART, 2 * PART) in server.ranges(PATH), "the first to begin")
        with preload.start(server.url + PATH, digest) as second:
            wait_until(lambda: "waiting for another process" in second.out, "the second to wait")
            held.set()
            ended = [first.end(), second.end()]

    assert [one.code for one in ended] == [0, 0], [one.out for one in ended]
    assert "was there already" in ended[1].out
    assert len(server.ranges(PATH)) == 3
    assert preload.left == [NAME]


def test_who_waits_for_a_run_that_is_refused_begins_anew(server: ModelServer, preload: Preload, weights: bytes) -> None:
    held = threading.Event()
    server.fault = lambda asked: Fault(hold=held) if asked.start == PART else None
    with preload.start(server.url + PATH, f"--digest=sha256:{'0' * 64}") as first:
        wait_until(lambda: (PART, 2 * PART) in server.ranges(PATH), "the first to begin")
        with preload.start(server.url + PATH, f"--digest={sha256(weights)}") as second:
            wait_until(lambda: "waiting for another process" in second.out, "the second to wait")
            held.set()
            ended = [first.end(), second.end()]

    assert [one.code for one in ended] == [1, 0], [one.out for one in ended]
    assert preload.left == [NAME]


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (404, "404 Not Found: there is nothing of that name"),
        (403, "it asks for a credential, and none was given"),
        (401, "it asks for a credential, and none was given"),
        (418, "expected the file"),
    ],
)
def test_what_cannot_succeed_is_asked_for_once(server: ModelServer, preload: Preload, status: int, told: str) -> None:
    server.fault = lambda _: Fault(status=status)
    done = preload(server.url + PATH)

    assert done.code == 2
    assert told in done.termination
    assert done.termination.count("\n") == 0
    assert len(server.asked) == 1
    assert preload.left == []


def test_a_busy_server_is_asked_again(server: ModelServer, preload: Preload) -> None:
    source = _small(server)
    server.fault = lambda _: Fault(status=503) if len(server.asked) in (1, 3) else None
    done = preload(source, f"--digest={sha256(b'weights')}")

    assert done.code == 0, done.out
    assert len(server.asked) == 4


def test_a_server_that_stays_busy_is_given_up(server: ModelServer, preload: Preload) -> None:
    server.fault = lambda _: Fault(status=503)
    done = preload(server.url + PATH, "--attempts=2")

    assert done.code == 4
    assert "did not answer in 2 attempts; the last: the server answered 503" in done.termination
    assert len(server.asked) == 2


def test_a_server_that_always_sends_too_little_is_given_up(server: ModelServer, preload: Preload) -> None:
    source = _small(server, b"w" * 1000)
    server.fault = lambda asked: Fault(cut_after=0) if asked.start != 0 or asked.end != 1 else None
    done = preload(source, "--attempts=2")

    assert done.code == 4
    assert f"file '{NAME}' was not brought in 2 attempts" in done.termination
    assert NAME not in preload.left


@pytest.mark.parametrize("change", ["length", "etag"])
def test_a_file_that_changes_meanwhile_is_refused(server: ModelServer, preload: Preload, change: str) -> None:
    def fault(asked: Asked) -> Fault | None:
        if (asked.start, asked.end) == (0, 1):
            return None
        if change == "etag":
            server.etags[PATH] = '"second"'
        return Fault(total=99) if change == "length" else None

    server.fault = fault
    done = preload(server.url + PATH)

    assert done.code == 4
    assert "was changed while it was brought" in done.termination
    assert NAME not in preload.left


@pytest.mark.parametrize("length", [True, False])
def test_a_server_without_ranges_is_asked_for_the_whole(
    server: ModelServer, preload: Preload, weights: bytes, length: bool
) -> None:
    server.fault = lambda _: Fault(ranges=False, length=length)
    done = preload(server.url + PATH, f"--digest={sha256(weights)}")

    assert done.code == 0, done.out
    assert (preload.destination / NAME).read_bytes() == weights


def test_a_server_without_ranges_that_cuts_is_begun_again(server: ModelServer, preload: Preload) -> None:
    source = _small(server, b"w" * 1000)
    server.fault = lambda _: Fault(ranges=False, cut_after=500 if len(server.asked) == 2 else None)
    done = preload(source, f"--digest={sha256(b'w' * 1000)}")

    assert done.code == 0, done.out
    assert len(server.asked) == 3


def test_an_empty_file_is_a_file(server: ModelServer, preload: Preload) -> None:
    source = _small(server, b"")
    server.fault = lambda _: Fault(ranges=False)

    assert preload(source, f"--digest={sha256(b'')}").code == 0
    assert (preload.destination / NAME).read_bytes() == b""


def test_a_certificate_of_an_unknown_authority_is_refused_at_once(server: ModelServer, preload: Preload) -> None:
    preload.variables.clear()
    done = preload(server.url + PATH)

    assert done.code == 2
    assert "no TLS connection that is trusted" in done.termination
    assert server.asked == []


def test_a_redirect_away_from_tls_is_not_followed(server: ModelServer, preload: Preload) -> None:
    with model_server() as plain:
        plain.files[PATH] = b"weights"
        del server.files[PATH]
        server.redirects[PATH] = plain.url + PATH
        done = preload(server.url + PATH)

        assert done.code == 2
        assert "redirects away from HTTPS" in done.termination
        assert plain.asked == []


def test_a_signature_in_the_address_is_never_told(server: ModelServer, preload: Preload) -> None:
    _small(server)
    server.fault = lambda _: Fault(status=403)
    done = preload(f"{server.url}{PATH}?X-Amz-Signature=topsecret")

    assert done.code == 2
    assert PATH in done.out
    assert "topsecret" not in done.out + done.termination


def test_a_model_that_does_not_fit_is_refused_before_it_is_brought(server: ModelServer, preload: Preload) -> None:
    server.fault = lambda _: Fault(total=10**15)
    done = preload(server.url + PATH)

    assert done.code == 4
    assert "1,000,000,000,000,000 bytes are still to be brought" in done.termination
    assert 0 < done.peak < 256 << 20  # a part for each 32 MiB of it would take gigabytes
    assert server.ranges(PATH) == []
    assert preload.left == []


def test_a_disk_that_is_full_in_the_middle_is_told(server: ModelServer, preload: Preload) -> None:
    source = _small(server, b"w" * (2 << 20))
    limited = ("bash", "-c", 'ulimit -f 1024; exec "$@"', "-")  # a mebibyte
    with preload.start(source, before=limited) as running:
        done = running.end()

    assert done.code == 4
    assert "cannot be written: File too large; is the volume large enough" in done.termination
    assert NAME not in preload.left


def test_memory_stays_bounded_for_a_file_much_larger_than_its_bound(
    server: ModelServer, preload: Preload, tmp_path: Path
) -> None:
    large = tmp_path / "large"
    with large.open("wb") as stream:
        stream.truncate(1 << 30)  # a gibibyte with no blocks on disk
    server.files[PATH] = large
    digest = "sha256:49bc20df15e412a64472421e13fe86ff1c5165e18b2afccf160d4dc19fe68a14"
    done = preload(server.url + PATH, f"--digest={digest}")

    assert done.code == 0, done.out
    assert 0 < done.peak < 256 << 20


def test_progress_is_told(server: ModelServer, preload: Preload, weights: bytes) -> None:
    done = preload(server.url + PATH)

    assert f"{len(weights) / 1e6:.1f} of {len(weights) / 1e6:.1f} MB" in done.out
    assert "NOT VERIFIED, no digest was given" in done.out


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("models/bert", "expected one of s3://"),
        ("ftp://host/file", "scheme 'ftp' is not known"),
        ("http://host/file", "use https"),
        ("oci://model", "with the registry's host in front"),
        ("oci://host/Model", "with the registry's host in front"),
        ("oci://host/model@sha256:12", "with the registry's host in front"),
        ("models:/", "expected models:/NAME/VERSION"),
        ("runs:/../x", "expected models:/NAME/VERSION"),
        ("pvc://claim/model", "mount the claim"),
        ("https://user:pw@host/file", "must not hold a user name or password"),
        ("https://host/", "names no file"),
        ("https://host:port/file", "cannot be read"),
        ("s3:///prefix", "found no bucket"),
        ("hf://bert", "expected ORG/NAME"),
        ("hf://org/../name", "expected ORG/NAME"),
        ("file://relative", "with three slashes"),
    ],
)
def test_a_source_that_cannot_be_used_is_refused_with_what_is_allowed(preload: Preload, source: str, told: str) -> None:
    done = preload(source)

    assert done.code == 2
    assert told in done.termination
    assert "pw" not in done.out
    assert preload.left == []
