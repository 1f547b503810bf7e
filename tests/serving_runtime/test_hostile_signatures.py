"""Whatever stands in a signature, a changed one never counts, and never ends in a traceback."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.serving_runtime.conftest import Runtime

_KEY = ec.generate_private_key(ec.SECP256R1())
_TYPE = "application/vnd.in-toto+json"
_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.text(max_size=5),
    st.just([]),
    st.just({}),
    st.just([{}]),
    st.just("ab" * 32),
)


def _signed(statement: Any, kind: str = _TYPE) -> dict[str, Any]:
    payload = json.dumps(statement).encode()
    message = b"DSSEv1 %d %b %d %b" % (len(kind), kind.encode(), len(payload), payload)
    signature = _KEY.sign(message, ec.ECDSA(hashes.SHA256()))
    return {
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"publicKey": {"hint": ""}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": kind,
            "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
        },
    }


def _statement() -> dict[str, Any]:
    """Of a model with one file, ``a``, that holds ``x``; its root is the SHA-256 of that file's."""
    file = hashlib.sha256(b"x")
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "m", "digest": {"sha256": hashlib.sha256(file.digest()).hexdigest()}}],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": [".git"],
            },
            "resources": [
                {
                    "name": "a",
                    "algorithm": "sha256",
                    "digest": file.hexdigest(),
                }
            ],
        },
    }


def _paths(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    return [path, *(one for key, child in children for one in _paths(child, (*path, key)))]


def _replaced(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    changed = copy.deepcopy(document)
    parent = changed
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = value
    return changed


@pytest.fixture
def signed_model(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "a").write_text("x")
    public = _KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "key.pub").write_bytes(public)
    return tmp_path


def _verify(runtime: Runtime, folder: Path, bundle: Any) -> int:
    (folder / "model.sig").write_text(json.dumps(bundle))
    ended = runtime(
        "verify",
        f"--path={folder / 'model'}",
        f"--signature={folder / 'model.sig'}",
        f"--public-key={folder / 'key.pub'}",
    )
    assert ended.code == 0 or ended.err.count("\n") == 1
    return ended.code


def test_the_statement_that_is_changed_below_is_accepted_as_it_is(runtime: Runtime, signed_model: Path) -> None:
    assert _verify(runtime, signed_model, _signed(_statement())) == 0


def test_what_was_signed_as_something_else_is_refused(runtime: Runtime, signed_model: Path) -> None:
    assert _verify(runtime, signed_model, _signed(_statement(), "application/json")) == 3


def test_a_file_that_was_signed_twice_is_refused(runtime: Runtime, signed_model: Path) -> None:
    statement = _statement()
    resources = statement["predicate"]["resources"]
    resources.insert(0, {**resources[0], "digest": "ab" * 32})
    both = b"".join(bytes.fromhex(one["digest"]) for one in resources)
    statement["subject"][0]["digest"]["sha256"] = hashlib.sha256(both).hexdigest()

    assert _verify(runtime, signed_model, _signed(statement)) == 3


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_bundle_with_any_other_value_inside_the_envelope_is_refused(
    runtime: Runtime, signed_model: Path, data: st.DataObject
) -> None:
    bundle = _signed(_statement())
    path = data.draw(st.sampled_from([one for one in _paths(bundle) if "verificationMaterial" not in one]))
    changed = _replaced(bundle, path, data.draw(_SCALARS))
    harmless = path[-1:] == ("keyid",)

    assert (_verify(runtime, signed_model, changed) == 0) is (changed == bundle or harmless)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_statement_that_says_anything_else_about_the_files_is_refused_though_signed(
    runtime: Runtime, signed_model: Path, data: st.DataObject
) -> None:
    statement = _statement()
    matters = [one for one in _paths(statement) if one[-1:] != ("name",) or "resources" in one]
    path = data.draw(st.sampled_from([one for one in matters if not {"ignore_paths", "allow_symlinks"} & set(one)]))
    changed = _replaced(statement, path, data.draw(_SCALARS))

    assert (_verify(runtime, signed_model, _signed(changed)) == 0) is (changed == statement)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_anything_may_stand_in_the_verification_material(
    runtime: Runtime, signed_model: Path, data: st.DataObject
) -> None:
    bundle = _signed(_statement())
    path = data.draw(st.sampled_from([one for one in _paths(bundle) if one[:1] == ("verificationMaterial",)]))

    assert _verify(runtime, signed_model, _replaced(bundle, path, data.draw(_SCALARS))) in (0, 2, 3)
