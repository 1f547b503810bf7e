"""The input gate before a real tritonserver, and before a server that keeps what it was sent."""

from __future__ import annotations

import asyncio
import base64
import datetime
import json
import socket
import struct
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.controlplane.waiting import wait_until
from tests.serving_runtime.input_gate import RULES, ask, of_rows, running_gate
from tests.serving_runtime.tritonserver import MODELS, Triton, running_triton

INFER = "/v2/models/sum/infer"


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    log = tmp_path_factory.mktemp("triton") / "log"
    with running_triton(MODELS, "--disable-auto-complete-config", log=log) as found:
        yield found


def answered(server: Triton) -> float:
    return server.metric("nv_inference_request_success")


def test_good_requests_pass_byte_for_byte_over_http_and_others_never_reach_the_server(
    triton: Triton, tmp_path: Path
) -> None:
    head = json.dumps(
        {
            "id": "42",
            "inputs": [{"name": "INPUT", "datatype": "FP32", "shape": [1, 3], "parameters": {"binary_data_size": 12}}],
            "outputs": [{"name": "SUM", "parameters": {"binary_data": True}}],
        }
    ).encode()
    binary = head + struct.pack("<3f", 1, 2, 4)
    length = {"Inference-Header-Content-Length": str(len(head))}
    with running_gate(tmp_path, triton.http, triton.grpc) as gate:
        for body, headers in ((of_rows([1, 2, 4], [0, 0, 1]), {}), (binary, length)):
            direct, through = (ask(port, "POST", INFER, body, headers) for port in (triton.http, gate.http))
            assert direct.status == 200
            assert (through.status, through.body) == (200, direct.body)
            assert through.headers.get("inference-header-content-length") == direct.headers.get(
                "inference-header-content-length"
            )
        assert through.body.endswith(struct.pack("<f", 7))

        before = answered(triton)
        refused = ask(gate.http, "POST", INFER, of_rows([1, 2, 4000]))
        assert (refused.status, refused.headers["content-type"]) == (400, "application/json")
        assert refused.error == "input 'INPUT': found 4000; expected values from -1000 to 1000"
        assert (
            ask(gate.http, "POST", "/v2/models/slow/infer", of_rows([1, 2, 4])).error == "model 'slow' is not declared"
        )
        assert ask(gate.http, "POST", INFER, b" " * 70_000).status == 413
        assert ask(gate.http, "POST", INFER, of_rows([1, 2, 4]), {"Content-Encoding": "gzip"}).status == 400
        assert answered(triton) == before

        accesses = gate.accessed(6)
    assert [one["verdict"] for one in accesses] == [
        "accepted",
        "accepted",
        "rejected",
        "rejected",
        "too-large",
        "rejected",
    ]
    assert (accesses[1]["model"], accesses[1]["version"], accesses[1]["id"]) == ("sum", "1", "42")
    assert (accesses[1]["caller"], accesses[1]["request_bytes"]) == ("127.0.0.1", len(binary))
    assert "INPUT" not in json.dumps(accesses[:2])


def test_the_same_holds_over_grpc_with_the_codes_of_grpc(triton: Triton, tmp_path: Path) -> None:
    from tritonclient.grpc import service_pb2

    def request(*row: float, model: str = "sum") -> bytes:
        message = service_pb2.ModelInferRequest(model_name=model, id="7")
        message.inputs.add(name="INPUT", datatype="FP32", shape=[1, 3])
        message.raw_input_contents.append(struct.pack("<3f", *row))
        return bytes(message.SerializeToString())

    def call(port: int, method: str, message: bytes) -> bytes:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            method = method if method.startswith("/") else f"/inference.GRPCInferenceService/{method}"
            return bytes(channel.unary_unary(method)(message, timeout=30))

    with running_gate(tmp_path, triton.http, triton.grpc) as gate:
        good = request(1, 2, 4)
        assert call(gate.grpc, "ModelInfer", good) == call(triton.grpc, "ModelInfer", good)
        for method in ("ServerReady", "ServerLive", "ServerMetadata", "/grpc.health.v1.Health/Check"):
            assert call(gate.grpc, method, b"") == call(triton.grpc, method, b"")
        with grpc.insecure_channel(f"127.0.0.1:{gate.grpc}") as channel:
            stream = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
            answers = list(stream(iter([good, good]), timeout=30))
            assert [service_pb2.ModelStreamInferResponse.FromString(one).infer_response.id for one in answers] == [
                "7",
                "7",
            ]

        before = answered(triton)
        typed = service_pb2.ModelInferRequest(model_name="sum")
        typed.inputs.add(name="INPUT", datatype="FP32", shape=[1, 3]).contents.fp32_contents.extend([1, 2, 4000])
        both = service_pb2.ModelInferRequest.FromString(good)
        both.inputs[0].contents.fp32_contents.extend([1, 2, 3])
        shared = service_pb2.ModelInferRequest.FromString(good)
        shared.inputs[0].parameters["shared_memory_region"].string_param = "region"
        two = service_pb2.ModelInferRequest.FromString(good)
        two.raw_input_contents.append(b"")
        refused: list[tuple[str, bytes, str, str]] = [
            ("ModelInfer", request(1, 2, float("nan")), "INVALID_ARGUMENT", "found nan"),
            ("ModelInfer", typed.SerializeToString(), "INVALID_ARGUMENT", "found 4000"),
            ("ModelInfer", both.SerializeToString(), "INVALID_ARGUMENT", "contents and raw_input_contents"),
            ("ModelInfer", shared.SerializeToString(), "INVALID_ARGUMENT", "shared memory"),
            ("ModelInfer", two.SerializeToString(), "INVALID_ARGUMENT", "raw_input_contents"),
            ("ModelInfer", b"\xff\xff", "INVALID_ARGUMENT", "no ModelInferRequest"),
            ("ModelInfer", request(1, 2, 3, model="slow"), "INVALID_ARGUMENT", "is not declared"),
            ("ModelInfer", good + _padding(70_000), "RESOURCE_EXHAUSTED", ""),
            ("RepositoryModelUnload", b"", "PERMISSION_DENIED", "not for callers"),
            ("RepositoryModelLoad", b"", "PERMISSION_DENIED", "not for callers"),
            ("RepositoryIndex", b"", "PERMISSION_DENIED", "not for callers"),
            ("SystemSharedMemoryRegister", b"", "PERMISSION_DENIED", "not for callers"),
            ("TraceSetting", b"", "PERMISSION_DENIED", "not for callers"),
            ("/other.Service/Method", b"", "PERMISSION_DENIED", "not for callers"),
        ]
        for method, message, code, reason in refused:
            with pytest.raises(grpc.RpcError) as error:
                call(gate.grpc, method, message)
            assert (error.value.code().name, reason in error.value.details()) == (code, True), error.value.details()
        with grpc.insecure_channel(f"127.0.0.1:{gate.grpc}", compression=grpc.Compression.Gzip) as channel:
            large = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            with pytest.raises(grpc.RpcError) as error:
                large(good + _padding(2_000_000), timeout=30)  # some 2 KB, compressed
            assert error.value.code().name == "RESOURCE_EXHAUSTED"
        with grpc.insecure_channel(f"127.0.0.1:{gate.grpc}") as channel:
            stream = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
            with pytest.raises(grpc.RpcError) as error:
                list(stream(iter([request(1, 2, 5000)]), timeout=30))
            assert (error.value.code().name, "found 5000" in error.value.details()) == ("INVALID_ARGUMENT", True)
        assert answered(triton) == before
        assert triton.answers("/v2/models/sum/ready") == 200
        verdicts = [one["verdict"] for one in gate.accessed(2 + 1 + len(refused) + 1 - 1)]
        assert verdicts.count("accepted") == 3  # one inference, one stream, one for metadata
        assert verdicts.count("blocked") == 6


def _padding(size: int) -> bytes:
    """A field that Triton's schema does not know, so that the message is only larger."""
    tag = (1000 << 3 | 2).to_bytes(2, "little")
    varint = bytes([tag[0] & 0x7F | 0x80, (1000 << 3 | 2) >> 7])
    length = bytes([size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14])
    return varint + length + bytes(size)


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/v2/health/live", 200),
        ("GET", "/v2/health/ready", 200),
        ("GET", "/v2/models/sum/ready", 200),
        ("GET", "/v2/models/sum", 200),
        ("GET", "/v2", 200),
        ("POST", "/v2/repository/index", 403),
        ("POST", "/v2/repository/models/sum/unload", 403),
        ("POST", "/v2/repository/models/sum/load", 403),
        ("GET", "/v2/systemsharedmemory/status", 403),
        ("POST", "/v2/systemsharedmemory/region/x/register", 403),
        ("POST", "/v2/cudasharedmemory/region/x/register", 403),
        ("POST", "/v2/trace/setting", 403),
        ("POST", "/v2/logging", 403),
        ("POST", "/v2/models/sum/generate", 403),
        ("POST", "/v2/models/sum/infer?x=1", 403),
        ("POST", "/v2/models/sum/../../repository/index", 403),
        ("POST", "//v2/models/sum/infer", 403),
        ("POST", "/v2/models/%73um/infer", 403),
        ("GET", "/v2/models/sum/infer", 403),
        ("GET", "/metrics", 403),
        ("DELETE", "/v2/models/sum", 403),
    ],
)
def test_only_health_metadata_and_inference_are_open(
    triton: Triton, module_gate: int, method: str, target: str, status: int
) -> None:
    assert ask(module_gate, method, target).status == status
    assert triton.answers("/v2/models/sum/ready") == 200


@pytest.fixture(scope="module")
def module_gate(triton: Triton, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with running_gate(tmp_path_factory.mktemp("gate"), triton.http, triton.grpc) as gate:
        yield gate.http


@pytest.mark.parametrize(
    "sent",
    [
        b"POST /v2/models/sum/infer HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET",
        b"POST /v2/models/sum/infer HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"POST /v2/models/sum/infer HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\nhello",
        b"POST /v2/models/sum/infer HTTP/1.1\r\nHost: a\r\nContent-Length : 5\r\n\r\nhello",
        (
            b"POST /v2/models/sum/infer HTTP/1.1\r\nHost: a\r\nInference-Header-Content-Length: 2\r\n"
            b"inference-header-content-length: 0\r\nContent-Length: 2\r\n\r\n{}"
        ),
        b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 40_000 + b"\r\n\r\n",
        b"POST /v2/models/sum/infer HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999\r\n\r\n",
        b"POST /v2/models/sum/infer HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX-Trailer: a\r\n\r\n",
        b"POST /v2/models/sum/infer HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX-Trailer: "
        + b"a" * 600_000,
    ],
)
def test_a_request_that_parsers_could_read_differently_is_refused(module_gate: int, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", module_gate), timeout=30) as connection:
        connection.sendall(sent)
        status = connection.recv(4096).split(b" ")[1]
    assert status in (b"400", b"413", b"431")
    assert ask(module_gate, "GET", "/v2/health/live").status == 200


class _Keeping(BaseHTTPRequestHandler):
    """Keeps every body it is sent."""

    protocol_version = "HTTP/1.1"
    kept: list[tuple[bytes, dict[str, str]]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.kept.append((body, {key.lower(): value for key, value in self.headers.items()}))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def keeping() -> Iterator[tuple[int, list[tuple[bytes, dict[str, str]]]]]:
    kept: list[tuple[bytes, dict[str, str]]] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Keeping", (_Keeping,), {"kept": kept}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_address[1], kept
    server.shutdown()
    server.server_close()
    thread.join(10)


def test_the_server_gets_the_very_bytes_and_not_the_callers_credentials(
    keeping: tuple[int, list[tuple[bytes, dict[str, str]]]], tmp_path: Path
) -> None:
    body = b'{ "inputs" :[{"name":"INPUT","shape":[1,3],"datatype":"FP32","data":[1.50,2e0,\n3]}]}'
    with running_gate(tmp_path, keeping[0]) as gate:
        headers = {"Authorization": "Bearer secret", "Traceparent": "00-1", "Transfer-Encoding": "chunked"}
        assert (
            ask(gate.http, "POST", INFER, body, {"Authorization": "Bearer secret", "Traceparent": "00-1"}).status == 200
        )
        with socket.create_connection(("127.0.0.1", gate.http), timeout=30) as connection:
            parts = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:10], body[10:])) + b"0\r\n\r\n"
            head = f"POST {INFER} HTTP/1.1\r\nHost: a\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers.items())
            connection.sendall(head.encode() + b"\r\n" + parts)
            assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
    assert [one for one, _ in keeping[1]] == [body, body]
    for _, sent in keeping[1]:
        assert sent["traceparent"] == "00-1"
        assert "authorization" not in sent
        assert "transfer-encoding" not in sent


def test_callers_are_limited_each_by_its_own_name(
    keeping: tuple[int, list[tuple[bytes, dict[str, str]]]], tmp_path: Path
) -> None:
    rules = RULES + "rate: {perSecond: 0.001, burst: 2}\ncaller: {from: header, header: X-Forwarded-User}\n"
    with running_gate(tmp_path, keeping[0], rules=rules) as gate:

        def status(user: str) -> int:
            return ask(gate.http, "POST", INFER, of_rows([1, 2, 3]), {"X-Forwarded-User": user} if user else {}).status

        assert [status("ann") for _ in range(3)] == [200, 200, 429]
        assert status("bob") == 200
        assert status("") == 401
        limited = ask(gate.http, "POST", INFER, of_rows([1, 2, 3]), {"X-Forwarded-User": "ann"})
        assert int(limited.headers["retry-after"]) > 900
        twice = ask(gate.http, "GET", "/v2/health/live")
        assert twice.status == 501  # the keeping server knows no GET; health needs no name
        assert [one["caller"] for one in gate.accessed(6)] == ["ann", "ann", "ann", "bob", "", "ann"]
    assert len(keeping[1]) == 3


def test_a_service_account_token_is_believed_only_with_the_clusters_signature(tmp_path: Path) -> None:

    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding, rsa
    from tidewaiter_runtime.input_validation.callers import Callers, Unknown
    from tidewaiter_runtime.input_validation.rules import CallerRule

    def encoded(content: bytes) -> str:
        return base64.urlsafe_b64encode(content).rstrip(b"=").decode()

    key, stranger = (rsa.generate_private_key(65537, 2048) for _ in range(2))
    numbers = key.public_key().public_numbers()
    jwk = {"kty": "RSA", "kid": "k", "n": encoded(numbers.n.to_bytes(256)), "e": encoded(numbers.e.to_bytes(3))}
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": [jwk]}))
    callers = Callers(
        CallerRule("serviceAccountToken", issuer="https://i", audience="gate", keys=str(tmp_path / "jwks.json"))
    )
    now = int(datetime.datetime.now(datetime.UTC).timestamp())
    good = {"iss": "https://i", "aud": ["gate"], "exp": now + 600, "sub": "system:serviceaccount:shop:web"}

    def name(claims: dict[str, Any], signer: rsa.RSAPrivateKey = key, **header: str) -> str:
        head = {"alg": "RS256", "kid": "k", **header}
        signed = f"{encoded(json.dumps(head).encode())}.{encoded(json.dumps(claims).encode())}"
        token = f"{signed}.{encoded(signer.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"
        return callers.name({"authorization": f"Bearer {token}"}, "", "10.0.0.1")

    assert name(good) == "system:serviceaccount:shop:web"
    wrong: list[tuple[dict[str, Any], rsa.RSAPrivateKey, dict[str, str]]] = [
        (good, stranger, {}),
        (good, key, {"alg": "none"}),
        (good, key, {"alg": "HS256"}),
        (good, key, {"kid": "other"}),
        ({**good, "aud": ["other"]}, key, {}),
        ({**good, "iss": "https://other"}, key, {}),
        ({**good, "exp": now - 600}, key, {}),
        ({**good, "exp": "never"}, key, {}),
        ({**good, "nbf": now + 600}, key, {}),
    ]
    for claims, signer, header in wrong:
        with pytest.raises(Unknown):
            name(claims, signer, **header)
    deep = base64.urlsafe_b64encode(b"[" * 100_000).decode()
    for authorization in (
        "", "Bearer", "Bearer a.b", "Basic abc", "Bearer a.b.c", "Bearer ä.ö.ü", f"Bearer {deep}.e30.AA",
    ):  # fmt: skip
        with pytest.raises(Unknown):
            callers.name({"authorization": authorization}, "", "10.0.0.1")


@asynccontextmanager
async def gate_in_this_process(folder: Path, server_port: int = 9, **limits: float) -> AsyncIterator[tuple[Any, Any]]:
    """A gate with other limits than the command's, and where it listens."""
    from tidewaiter_runtime.http_upstream import Upstream
    from tidewaiter_runtime.input_validation.access_log import AccessLog
    from tidewaiter_runtime.input_validation.http_gate import HttpGate, HttpLimits
    from tidewaiter_runtime.input_validation.judgement import Judge
    from tidewaiter_runtime.input_validation.observations import Observations
    from tidewaiter_runtime.input_validation.rules_file import parse_rules

    with (folder / "log").open("wb") as stream:
        log = AccessLog(stream)
        upstream = Upstream("127.0.0.1", server_port)
        gate = HttpGate(Judge(parse_rules(RULES), log, Observations(None)), upstream, HttpLimits(**limits))
        server = await asyncio.get_running_loop().create_server(gate.connect, "127.0.0.1", 0)
        try:
            yield gate, server.sockets[0].getsockname()
        finally:
            server.close()
            upstream.close()
            log.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  # of the gate's own state, which has no event
            await asyncio.sleep(0.01)


def test_a_client_that_sends_slowly_is_told_so_and_let_go(tmp_path: Path) -> None:
    async def served(sent: bytes, connections: int = 10) -> bytes:
        limits = {"read_s": 0.2, "idle_s": 0.2, "connections": connections}
        async with gate_in_this_process(tmp_path, **limits) as (_, where):
            reader, writer = await asyncio.open_connection(*where)
            writer.write(sent)
            found = await asyncio.wait_for(reader.read(), 20)
            writer.close()
            return found

    assert asyncio.run(served(b"GET /v2/hea")).startswith(b"HTTP/1.1 408 ")
    head = b"POST /v2/models/sum/infer HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{"
    assert asyncio.run(served(head)).startswith(b"HTTP/1.1 408 ")
    assert asyncio.run(served(b"")) == b""
    assert asyncio.run(served(b"", connections=0)).startswith(b"HTTP/1.1 503 ")


def test_a_client_that_does_not_read_its_answers_is_not_served_on_and_on(tmp_path: Path) -> None:
    """Else each of its requests would leave an answer in the gate's memory."""
    asked = 0

    class Large(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self._transport = transport

        def data_received(self, data: bytes) -> None:
            nonlocal asked
            asked += data.count(b"GET ")
            assert isinstance(self._transport, asyncio.Transport)
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4000000\r\n\r\n" + bytes(4_000_000))

    async def scenario() -> None:
        server = await asyncio.get_running_loop().create_server(Large, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with gate_in_this_process(tmp_path, port, read_s=5, idle_s=0.5) as (gate, where):
            with socket.create_connection(where, timeout=30) as client:
                client.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\n\r\n" * 100)
                # It is let go after its time, without a single byte read.
                await until(lambda: asked > 0 and not gate.connections)
        server.close()

    asyncio.run(scenario())
    assert 1 <= asked <= 5


def test_bodies_of_all_callers_together_are_bounded(tmp_path: Path) -> None:
    head = b"POST /v2/models/sum/infer HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n"

    async def scenario() -> tuple[bytes, int, int]:
        async with gate_in_this_process(tmp_path, buffered_bytes=80_000) as (gate, where):
            _, first = await asyncio.open_connection(*where)
            first.write(head + bytes(50_000))
            await until(lambda: gate.buffered >= 50_000)
            reader, second = await asyncio.open_connection(*where)
            second.write(head + bytes(50_000))
            answer = await asyncio.wait_for(reader.read(), 10)
            second.close()
            await until(lambda: len(gate.connections) == 1)
            held = gate.buffered
            first.close()
            await until(lambda: not gate.connections)
            return answer, held, gate.buffered

    answer, held, left = asyncio.run(scenario())
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert (held, left) == (50_000, 0)


def test_a_server_that_is_not_there_is_a_502(tmp_path: Path) -> None:
    with running_gate(tmp_path, 9) as gate:
        answer = ask(gate.http, "POST", INFER, of_rows([1, 2, 3]))
        assert (answer.status, answer.error) == (502, "the model server cannot be reached")
        wait_until(lambda: [one["verdict"] for one in gate.accesses] == ["failed"], "the access log")
