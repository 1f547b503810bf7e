"""Requests that no API server sends: each gets an answer or a closed connection, and none ends the service."""

from __future__ import annotations

import json
import re
import socket
import ssl
from collections.abc import Callable
from typing import Any

import pytest

from admission.admission_review import MAX_BODY_BYTES
from tests.controlplane.waiting import wait_until
from tests.http.service import LIMIT_S, Service, pod, review

GOOD = json.dumps(review(pod()), separators=(",", ":")).encode()


def deep(levels: int) -> bytes:
    """A review whose pod nests `levels` arrays, which no JSON library of ours would write."""
    return GOOD.replace(b'"oldObject":null', b'"oldObject":{"x":' + b"[" * levels + b"]" * levels + b"}")


BODIES = {
    "nothing": (b"", 400),
    "half a document": (GOOD[: len(GOOD) // 2], 400),
    "no JSON": (b"apiVersion: admission.k8s.io/v1\n", 400),
    "bytes after the document": (GOOD + b"x", 400),
    "bytes that are no UTF-8": (GOOD.replace(b"resnet50", b"\xff\xfe"), 400),
    "an array": (b"[]", 400),
    "null": (b"null", 400),
    "a number": (b"1e999", 400),
    "another kind": (GOOD.replace(b'"AdmissionReview"', b'"ConversionReview"'), 200),
    "another version": (GOOD.replace(b"admission.k8s.io/v1", b"admission.k8s.io/v1beta1"), 200),
    "no request": (b'{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}', 400),
    "a request that is null": (b'{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":null}', 400),
    "no uid": (GOOD.replace(b'"uid":"u-1",', b""), 400),
    "a uid that is a number": (GOOD.replace(b'"uid":"u-1"', b'"uid":7'), 400),
    "a key given twice": (GOOD.replace(b'"dryRun":false', b'"dryRun":false,"dryRun":true'), 200),
    "a lone surrogate": (GOOD.replace(b"resnet50", b"\\ud800"), 400),
    "NaN": (GOOD.replace(b'"dryRun":false', b'"dryRun":NaN'), 400),
    "deep nesting": (deep(300), 200),
    "very deep nesting": (deep(100_000), 400),
    "an unknown operation": (GOOD.replace(b'"CREATE"', b'"PATCH"'), 200),
    "an object that is a list": (json.dumps(review([])).encode(), 200),  # type: ignore[arg-type]  # on purpose
}


@pytest.mark.parametrize(("body", "status"), BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("path", ["/mutate", "/validate"])
def test_a_body_that_is_no_review_is_answered_counted_and_written_down(
    service: Service, path: str, body: bytes, status: int
) -> None:
    errors = error_count(service, path)
    records = len(service.records)

    answer = service.post(path, body)

    assert answer.status == status
    assert json.loads(answer.body)["response"]["status" if status == 400 or path == "/validate" else "uid"]
    assert error_count(service, path) == errors + 1
    assert written(service, records, "tidewaiter: ")["verdict"] == "error"
    assert service.still_answers()


def test_a_review_that_fails_open_says_so(service: Service) -> None:
    response = service.post("/mutate", GOOD.replace(b'"CREATE"', b'"PATCH"')).response

    assert (response["uid"], response["allowed"]) == ("u-1", True)
    assert "let through unreviewed" in response["warnings"][0]


@pytest.mark.parametrize("chunked", [False, True], ids=["announced", "in chunks"])
def test_a_body_that_is_too_large_is_refused_and_written_down(service: Service, chunked: bool) -> None:
    errors, records = error_count(service, "/validate"), len(service.records)
    with service.tls() as connection:
        if chunked:
            connection.sendall(b"POST /validate HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            connection.sendall(b"%x\r\n" % (MAX_BODY_BYTES + 1) + b"x" * (MAX_BODY_BYTES + 1))
        else:
            connection.sendall(b"POST /validate HTTP/1.1\r\nHost: x\r\nContent-Length: 8388608\r\n\r\nx")
        assert until_closed(connection).startswith(b"HTTP/1.1 413 ")

    assert error_count(service, "/validate") == errors + 1
    assert service.metric("tidewaiter_errors_total", webhook="validate", cause="too-large")
    assert written(service, records, f"larger than {MAX_BODY_BYTES} bytes")["verdict"] == "error"
    assert service.still_answers()


SLOW_BODIES = {
    "half of what it announced": b"Content-Length: %d\r\n\r\n" % (2 * len(GOOD)) + GOOD,
    "nothing of what it announced": b"Content-Length: 10\r\n\r\n",
    "chunks without an end": b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
}


@pytest.mark.parametrize("sent", SLOW_BODIES.values(), ids=SLOW_BODIES)
def test_a_body_that_does_not_arrive_is_cut_off_and_written_down(service: Service, sent: bytes) -> None:
    errors, records = error_count(service, "/mutate"), len(service.records)
    with service.tls() as connection:
        connection.sendall(b"POST /mutate HTTP/1.1\r\nHost: x\r\n" + sent)
        assert service.still_answers()
        assert until_closed(connection).startswith(b"HTTP/1.1 408 ")

    assert error_count(service, "/mutate") == errors + 1
    assert written(service, records, "did not arrive within 0.5 seconds")["webhook"] == "mutate"


def test_a_client_that_goes_away_in_the_middle_is_written_down(service: Service) -> None:
    before = service.metric("tidewaiter_errors_total", webhook="validate", cause="broken-off")
    records = len(service.records)
    with service.tls() as connection:
        connection.sendall(b"POST /validate HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")

    assert written(service, records, "went away")["webhook"] == "validate"
    assert service.metric("tidewaiter_errors_total", webhook="validate", cause="broken-off") == before + 1
    assert service.still_answers()


HEADS = {
    "half a head": b"POST /mutate HTTP/1.1\r\nHost: x\r\nX-Slow: ",
    "nothing after the handshake": b"",
    "half a head after a whole request": b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nPOST /mutate HTTP/1.1\r\n",
}


@pytest.mark.parametrize("sent", HEADS.values(), ids=HEADS)
def test_a_head_that_does_not_arrive_is_cut_off(service: Service, sent: bytes) -> None:
    with service.tls() as connection:
        connection.sendall(sent)
        assert service.still_answers()
        until_closed(connection)


def test_a_handshake_that_does_not_end_is_cut_off(service: Service) -> None:
    with socket.create_connection(("127.0.0.1", service.port), timeout=LIMIT_S) as plain:
        plain.sendall(b"\x16\x03\x01")
        assert service.still_answers()
        assert plain.recv(1) == b""


def test_a_client_that_does_not_say_goodbye_is_cut_off(service: Service) -> None:
    """After our close_notify comes none from the client, and it does not close either."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context(cafile=str(service.folder / "ca.crt"))
    secure = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with socket.create_connection(("127.0.0.1", service.port), timeout=LIMIT_S) as plain:
        shake(secure, incoming, outgoing, plain)
        secure.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        plain.sendall(outgoing.read())
        while plain.recv(65536):
            pass


REQUESTS = {
    "GET": (b"GET /mutate HTTP/1.1\r\nHost: x\r\n\r\n", b"405"),
    "PUT": (b"PUT /validate HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", b"405"),
    "an unknown path": (b"POST /v1/mutate HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", b"404"),
    "a path outside": (b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", b"404"),
    "a path that is no ASCII": (b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
    "HTTP/1.0": (b"POST /mutate HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(GOOD) + GOOD, b"200"),
    "HTTP/0.9": (b"GET /\r\n\r\n", b"404"),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"400"),
    "no HTTP": (b"\x00\x01\x02\x03\r\n\r\n", b"400"),
    "CONNECT": (b"CONNECT evil:443 HTTP/1.1\r\nHost: x\r\n\r\n", b"4"),
    "a length that is no number": (b"POST /mutate HTTP/1.1\r\nHost: x\r\nContent-Length: ten\r\n\r\n", b"400"),
    "a negative length": (b"POST /mutate HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", b"400"),
    "two lengths": (b"POST /mutate HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", b"400"),
    "a length and chunks": (
        b"POST /mutate HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        b"400",
    ),
    "a chunk that lies": (b"POST /mutate HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n", b"4"),
    "an upgrade": (
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"200",
    ),
}


@pytest.mark.parametrize(("sent", "status"), REQUESTS.values(), ids=REQUESTS)
def test_a_request_that_no_api_server_sends_is_answered(service: Service, sent: bytes, status: bytes) -> None:
    with service.tls() as connection:
        connection.sendall(sent)
        assert connection.recv(65536).startswith(b"HTTP/1.1 " + status)

    assert service.still_answers()


def test_a_length_that_is_too_short_does_not_make_a_second_review_of_the_rest(service: Service) -> None:
    records = len(service.records)
    with service.tls() as connection:
        head = b"POST /mutate HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
        connection.sendall(head % (len(GOOD) - 10) + GOOD)
        answers = until_closed(connection)

    assert answers.startswith(b"HTTP/1.1 400 ")
    assert b"HTTP/1.1 200 " not in answers
    # Whether the review or the close of the connection comes first is not ours to say.
    assert written(service, records, "body is not JSON|client went away")["webhook"] == "mutate"


def test_pipelined_requests_are_answered_in_order(service: Service) -> None:
    head = b"POST /mutate HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    with service.tls() as connection:
        for uid in (b"p-1", b"p-2", b"p-3"):
            body = GOOD.replace(b"u-1", uid)
            connection.sendall(head % len(body) + body)
        received = b""
        while b"p-3" not in received:
            received += connection.recv(65536)

    assert received.index(b"p-1") < received.index(b"p-2") < received.index(b"p-3")


def error_count(service: Service, path: str) -> float:
    return service.metric("tidewaiter_reviews_total", webhook=path[1:], verdict="error")


def written(service: Service, before: int, pattern: str = "") -> dict[str, Any]:
    """The first record after `before` others whose error is like the pattern.

    An earlier test's record may still come in, which is why the pattern is waited for.
    """

    def like() -> dict[str, Any] | None:
        return next((one for one in service.records[before:] if re.search(pattern, one.get("error", "-"))), None)

    return wait_until(like, f"a record like {pattern!r}")


def until_closed(connection: ssl.SSLSocket) -> bytes:
    """Everything until the other side closes; its limit is the socket's."""
    received = b""
    while True:
        try:
            more = connection.recv(65536)
        except ConnectionResetError:
            return received
        if not more:
            return received
        received += more


def shake(secure: ssl.SSLObject, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, plain: socket.socket) -> None:
    """A handshake by hand."""
    step: Callable[[], None] = secure.do_handshake
    while True:
        try:
            step()
        except ssl.SSLWantReadError:
            plain.sendall(outgoing.read())
            incoming.write(plain.recv(65536))
        else:
            plain.sendall(outgoing.read())
            return
