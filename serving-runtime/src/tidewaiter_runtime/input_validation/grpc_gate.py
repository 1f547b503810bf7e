"""The gate over gRPC: messages are judged and sent on as the bytes they came as."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2  # type: ignore[import-untyped]  # ships no types

from tidewaiter_runtime.input_validation.access_log import Access
from tidewaiter_runtime.input_validation.judgement import Asked, Judge, Refused
from tidewaiter_runtime.input_validation.predictions import from_grpc
from tidewaiter_runtime.input_validation.rules import ModelRule
from tidewaiter_runtime.input_validation.tensors import Rejected
from tidewaiter_runtime.input_validation.v2_grpc import inference_request, read_message
from tidewaiter_runtime.input_validation.v2_http import InferenceRequest

_SERVICE = "/inference.GRPCInferenceService/"
_INFER = _SERVICE + "ModelInfer"
_STREAM = _SERVICE + "ModelStreamInfer"
_HEALTH = frozenset(
    (*(_SERVICE + name for name in ("ServerLive", "ServerReady", "ModelReady")), "/grpc.health.v1.Health/Check")
)
_METADATA = frozenset(_SERVICE + name for name in ("ServerMetadata", "ModelMetadata", "ModelConfig", "ModelStatistics"))
_CODES = {
    "unknown-caller": grpc.StatusCode.UNAUTHENTICATED,
    "limited": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "rejected": grpc.StatusCode.INVALID_ARGUMENT,
    "too-large": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "blocked": grpc.StatusCode.PERMISSION_DENIED,
}
_LARGEST_PREDICTION = 64 << 10
_NOT_SENT_ON = ("grpc-", ":", "authorization", "user-agent", "content-type", "te")


@dataclass(frozen=True, slots=True)
class _Call:
    context: grpc.aio.ServicerContext[bytes, bytes]
    access: Access
    started: float

    def asked(self) -> Asked:
        headers: dict[str, str] = {}
        for key, value in self.context.invocation_metadata() or ():
            if key in headers:
                raise Refused("rejected", f"the metadata {key[:80]} is there twice")
            headers[key] = value if isinstance(value, str) else value.decode("latin-1")
        return Asked(headers, _certificate_name(self.context.auth_context()), _address(self.context.peer()))

    def metadata(self) -> list[tuple[str, str | bytes]]:
        found = self.context.invocation_metadata() or ()
        return [(key, value) for key, value in found if not key.startswith(_NOT_SENT_ON)]


class GrpcGate(grpc.GenericRpcHandler):
    """Handles every method of a server; ``channel`` leads to the model server."""

    def __init__(self, judge: Judge, channel: grpc.aio.Channel, limit_s: float = 60.0) -> None:
        self._judge = judge
        self._channel = channel
        self._limit_s = limit_s
        # As bytes: neither side reads the messages, so they stay as they were.
        self._unary: dict[str, Any] = {
            method: channel.unary_unary(method, request_serializer=None, response_deserializer=None)
            for method in (_INFER, *_HEALTH, *_METADATA)
        }
        self._handlers: dict[str, Any] = {
            _INFER: grpc.unary_unary_rpc_method_handler(self._infer),
            _STREAM: grpc.stream_stream_rpc_method_handler(self._stream),
            **{method: grpc.unary_unary_rpc_method_handler(self._passing(method)) for method in (*_HEALTH, *_METADATA)},
        }
        self._blocked: Any = grpc.stream_stream_rpc_method_handler(self._block)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        """The handler of one call."""
        found: grpc.RpcMethodHandler[bytes, bytes] = self._handlers.get(handler_call_details.method, self._blocked)
        return found

    async def _infer(self, message: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        call = self._begin(context, len(message))
        try:
            self._judge.admit(call.access, call.asked())
            rule, request = self._checked(call.access, message)
            call.access.gate_ms = (time.perf_counter() - call.started) * 1000
            answer = await self._ask(_INFER, message, call)
        except Refused as why:
            await self._refuse(call, why)
        except grpc.aio.AioRpcError as error:
            await self._fail(call, error)
        read = _small_answer(answer)
        if read is not None:
            call.access.version = call.access.version or read.model_version
        self._end(call, answer)
        prediction: list[float] = []
        if read is not None and rule.prediction and self._judge.observations.chosen(rule):
            prediction = from_grpc(read, rule.prediction)
        self._judge.observe(call.access, request, prediction)
        return answer

    def _passing(self, method: str) -> Any:
        async def handle(message: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
            call = self._begin(context, len(message))
            try:
                if method not in _HEALTH:
                    self._judge.admit(call.access, call.asked())
                answer = await self._ask(method, message, call)
            except Refused as why:
                await self._refuse(call, why)
            except grpc.aio.AioRpcError as error:
                await self._fail(call, error)
            if method not in _HEALTH:
                self._end(call, answer)
            return answer

        return handle

    async def _stream(
        self, messages: AsyncIterator[bytes], context: grpc.aio.ServicerContext[bytes, bytes]
    ) -> AsyncIterator[bytes]:
        """Every message is judged and counted; the first that is refused ends the stream."""
        call = self._begin(context, 0)
        refused: list[Refused] = []

        async def judged() -> AsyncIterator[bytes]:
            try:
                asked = call.asked()
                async for message in messages:
                    call.access.request_bytes += len(message)
                    self._judge.admit(call.access, asked)
                    self._checked(call.access, message)
                    yield message
            except Refused as why:
                refused.append(why)
                upstream.cancel()

        begin: Any = self._channel.stream_stream(_STREAM, request_serializer=None, response_deserializer=None)
        upstream = begin(judged(), metadata=call.metadata(), timeout=context.time_remaining())
        try:
            async for answer in upstream:
                call.access.response_bytes += len(answer)
                yield answer
        except grpc.aio.AioRpcError as error:
            for why in refused:
                await self._refuse(call, why)
            await self._fail(call, error)
        except asyncio.CancelledError:
            # What cancels the upstream call cancels its reader too, and not this call.
            for why in refused:
                await self._refuse(call, why)
            raise
        self._end(call, b"")

    async def _block(
        self,
        messages: AsyncIterator[bytes],  # noqa: ARG002  # gRPC's signature; they are not read
        context: grpc.aio.ServicerContext[bytes, bytes],
    ) -> AsyncIterator[bytes]:
        call = self._begin(context, 0)
        try:
            self._judge.admit(call.access, call.asked())
        except Refused as why:
            await self._refuse(call, why)
        reason = "this method is not for callers; use health, metadata and inference"
        await self._refuse(call, Refused("blocked", reason))
        yield b""  # never reached; it makes this the generator that gRPC wants

    async def _ask(self, method: str, message: bytes, call: _Call) -> bytes:
        left = call.context.time_remaining()
        limit = self._limit_s if left is None else min(left, self._limit_s)  # type: ignore[redundant-expr]  # no deadline
        answer: bytes = await self._unary[method](message, metadata=call.metadata(), timeout=limit)
        return answer

    def _checked(self, access: Access, message: bytes) -> tuple[ModelRule, InferenceRequest]:
        try:
            read = read_message(message)
        except Rejected as why:
            raise Refused("rejected", str(why)) from None
        access.model, access.version = read.model_name[:256], read.model_version[:20]
        rule = self._judge.model(access, len(message))
        return rule, self._judge.check(access, rule, lambda: inference_request(read))

    def _begin(self, context: grpc.aio.ServicerContext[bytes, bytes], size: int) -> _Call:
        return _Call(context, Access("grpc", request_bytes=size), time.perf_counter())

    def _end(self, call: _Call, answer: bytes) -> None:
        call.access.verdict = "accepted"
        call.access.response_bytes += len(answer)
        self._log(call)

    def _log(self, call: _Call) -> None:
        call.access.total_ms = (time.perf_counter() - call.started) * 1000
        self._judge.log.add(call.access)

    async def _refuse(self, call: _Call, why: Refused) -> Any:
        code = _CODES[why.verdict]
        call.access.verdict, call.access.reason, call.access.status = why.verdict, str(why), _number(code)
        self._log(call)
        self._judge.observe(call.access)
        await call.context.abort(code, str(why))

    async def _fail(self, call: _Call, error: grpc.aio.AioRpcError) -> Any:
        code = error.code()
        call.access.reason, call.access.status = "the model server refused or failed", _number(code)
        self._log(call)
        self._judge.observe(call.access)
        await call.context.abort(code, error.details() or "", tuple(error.trailing_metadata() or ()))


def server(gate: GrpcGate, largest_message: int, calls: int = 256) -> grpc.aio.Server:
    """A gRPC server with bounded messages, metadata and calls at a time."""
    options = (
        ("grpc.max_receive_message_length", largest_message),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", 32 << 10),
        ("grpc.max_concurrent_streams", calls),
        ("grpc.so_reuseport", 0),
    )
    found = grpc.aio.server(options=options, maximum_concurrent_rpcs=calls)
    found.add_generic_rpc_handlers((gate,))
    return found


def channel(target: str) -> grpc.aio.Channel:
    """To the model server; answers of any size."""
    return grpc.aio.insecure_channel(
        target, options=(("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
    )


def _small_answer(answer: bytes) -> Any:
    """A ModelInferResponse that is small enough to be read without delaying anybody; else None."""
    if len(answer) > _LARGEST_PREDICTION:
        return None
    try:
        return service_pb2.ModelInferResponse.FromString(answer)
    except DecodeError:
        return None


def _number(code: grpc.StatusCode) -> int:
    value: tuple[int, str] = code.value
    return value[0]


def _address(peer: str) -> str:
    """Of ``ipv4:10.0.0.1:3456``."""
    return peer.partition(":")[2].rpartition(":")[0].strip("[]")


def _certificate_name(context: Mapping[str, Any]) -> str:
    """The URI or DNS name of the client's certificate, or its common name."""
    names = [one.decode("utf-8", "replace") for one in context.get("x509_subject_alternative_name", ())]
    uris = [one for one in names if "://" in one]
    common = [one.decode("utf-8", "replace") for one in context.get("x509_common_name", ())]
    return next(iter((*uris, *names, *common)), "")
