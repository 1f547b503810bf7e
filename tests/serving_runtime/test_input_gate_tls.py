"""The input gate with TLS: only callers with a certificate of the authority come in, by the name in it."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.controlplane.certificates import Authority, KeyPair
from tests.serving_runtime.conftest import Runtime
from tests.serving_runtime.input_gate import RULES, Gate, of_rows, running_gate
from tests.serving_runtime.tritonserver import MODELS, running_triton

CERTIFICATE = RULES + "caller: {from: certificate}\n"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def gate(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    folder = tmp_path_factory.mktemp("gate")
    own = authority.issue("gate", "gate", dns_names=["localhost"], addresses=["127.0.0.1"])
    flags = ("--certificate", own.certificate, "--key", own.key, "--callers-ca", authority.pair.certificate)
    with (
        running_triton(MODELS, "--disable-auto-complete-config", log=folder / "triton.log") as triton,
        running_gate(folder, triton.http, triton.grpc, rules=CERTIFICATE, flags=flags) as found,
    ):
        yield found


@pytest.fixture(scope="module")
def shop(authority: Authority) -> KeyPair:
    return authority.issue("shop", "shop-web", dns_names=["web.shop.svc"])


def test_over_http_the_caller_is_the_name_in_its_certificate(gate: Gate, authority: Authority, shop: KeyPair) -> None:
    context = ssl.create_default_context(cafile=str(authority.pair.certificate))
    url = f"https://localhost:{gate.http}/v2/models/sum/infer"
    with pytest.raises((ssl.SSLError, urllib.error.URLError, ConnectionError)):
        urllib.request.urlopen(url, of_rows([1, 2, 4]), timeout=30, context=context).close()
    context.load_cert_chain(shop.certificate, shop.key)
    with urllib.request.urlopen(url, of_rows([1, 2, 4]), timeout=30, context=context) as answer:
        assert json.load(answer)["outputs"][0]["data"] == [7.0]
    assert "web.shop.svc" in [one["caller"] for one in gate.accessed(1)]


def test_over_grpc_it_is_the_same_name(gate: Gate, authority: Authority, shop: KeyPair) -> None:
    from tritonclient.grpc import service_pb2

    def metadata(*own: bytes) -> str:
        credentials = grpc.ssl_channel_credentials(authority.pair.certificate.read_bytes(), *own)
        with grpc.secure_channel(f"localhost:{gate.grpc}", credentials) as channel:
            answer = channel.unary_unary("/inference.GRPCInferenceService/ServerMetadata")(b"", timeout=30)
        return str(service_pb2.ServerMetadataResponse.FromString(answer).name)

    with pytest.raises(grpc.RpcError) as error:
        metadata()
    assert error.value.code().name == "UNAVAILABLE"
    before = len(gate.accesses)
    assert metadata(shop.key.read_bytes(), shop.certificate.read_bytes()) == "triton"
    assert gate.accessed(before + 1)[-1]["caller"] == "web.shop.svc"


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        ([], "caller.from is certificate; give --certificate, --key and --callers-ca"),
        (["--callers-ca", "x"], "--certificate and --key belong together"),
        (["--callers-ca", "x", "--certificate", "y", "--key", "z"], "cannot be used"),
        (["--callers-ca", "x", "--certificate", "y", "--key", "z", "--http", "nowhere"], "--http: found 'nowhere'"),
        (
            ["--callers-ca", "x", "--certificate", "y", "--key", "z", "--http", "off", "--grpc", "off"],
            "nothing would listen",
        ),
    ],
)
def test_flags_that_do_not_belong_together_are_named(
    runtime: Runtime, tmp_path: Path, flags: list[str], problem: str
) -> None:
    (tmp_path / "rules.yaml").write_text(CERTIFICATE)
    where = [] if "--http" in flags else ["--http", "127.0.0.1:1", "--grpc", "off"]
    ended = runtime("input-gate", "--rules", tmp_path / "rules.yaml", *where, *flags)
    assert (ended.code, problem in ended.err) == (2, True), ended.err


def test_rules_can_be_checked_without_listening(runtime: Runtime, tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(RULES)
    ended = runtime("input-gate", "--rules", tmp_path / "rules.yaml", "--check")
    assert (ended.code, ended.out) == (0, f"{tmp_path / 'rules.yaml'}: 2 models: sum, text_length\n")
    (tmp_path / "rules.yaml").write_text("models:\n  m:\n    input: {}\n")
    ended = runtime("input-gate", "--rules", tmp_path / "rules.yaml", "--check")
    assert (ended.code, "rules.yaml:3: models.m.input is not known; did you mean inputs?" in ended.err) == (2, True), (
        ended.err
    )
