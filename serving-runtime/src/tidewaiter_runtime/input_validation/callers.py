"""Who calls: from the client's certificate, a header of a trusted proxy, a ServiceAccount token or the address."""

from __future__ import annotations

import base64
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from tidewaiter_runtime.input_validation.rules import CallerRule
from tidewaiter_runtime.refusals import BadInput

_LONGEST = 256
_LARGEST_TOKEN = 16 << 10
_REMEMBERED = 4096
_SKEW_S = 10


class Unknown(Exception):  # noqa: N818  # an outcome for the caller
    """The caller did not say who it is, or not so that it can be believed."""


class Callers:
    """Names callers as one rule says."""

    def __init__(self, rule: CallerRule) -> None:
        self._rule = rule
        self._tokens = TokenReader(rule) if rule.source == "serviceAccountToken" else None

    def name(self, headers: Mapping[str, str], certificate: str, address: str) -> str:
        """The caller's name, at most 256 characters. ``headers`` have lower-case names.

        Raises:
            Unknown: there is none.
        """
        if self._rule.source == "address":
            return address
        if self._rule.source == "certificate":
            found = certificate
        elif self._rule.source == "header":
            found = headers.get(self._rule.header, "")
        else:
            found = self._token(headers.get("authorization", ""))
        if not found or len(found) > _LONGEST or not found.isprintable():
            raise Unknown(f"the caller's name is missing; it is taken from: {self._rule.source}")
        return found

    def _token(self, authorization: str) -> str:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or self._tokens is None:
            raise Unknown("expected Authorization: Bearer with a ServiceAccount token")
        return self._tokens.subject(token.strip())


class TokenReader:
    """ServiceAccount tokens (JWT, RS256 or ES256), verified with the keys that the cluster publishes as JWKS."""

    def __init__(self, rule: CallerRule, clock: Callable[[], float] = time.time) -> None:
        self._rule = rule
        self._clock = clock
        self._keys = _read_keys(Path(rule.keys))
        self._known: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def subject(self, token: str) -> str:
        """``system:serviceaccount:NAMESPACE:NAME`` of a token; raises Unknown."""
        known = self._known.get(token)
        if known is None:
            known = self._verify(token)
            self._known[token] = known
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        if known[1] + _SKEW_S < self._clock():
            self._known.pop(token, None)
            raise Unknown("the token has expired")
        return known[0]

    def _verify(self, token: str) -> tuple[str, float]:
        parts = token.split(".")
        if len(parts) != 3 or len(token) > _LARGEST_TOKEN:
            raise Unknown("the token is no JWT")
        header, claims = _json(parts[0]), _json(parts[1])
        key = self._keys.get(str(header.get("kid")))
        if key is None or not _signed(key, str(header.get("alg")), ".".join(parts[:2]).encode(), _bytes(parts[2])):
            raise Unknown("the token is not signed by a key of the cluster")
        audience = claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        if claims.get("iss") != self._rule.issuer or self._rule.audience not in audiences:
            raise Unknown("the token is of another issuer or for another audience")
        expires, starts = claims.get("exp"), claims.get("nbf", 0)
        if type(expires) is not int or type(starts) is not int or starts > self._clock() + _SKEW_S:
            raise Unknown("the token has no expiry, or is not valid yet")
        return str(claims.get("sub", "")), float(expires)


_Key = rsa.RSAPublicKey | ec.EllipticCurvePublicKey


def _signed(key: _Key, algorithm: str, signed: bytes, signature: bytes) -> bool:
    try:
        if algorithm == "RS256" and isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
            return True
        if algorithm == "ES256" and isinstance(key, ec.EllipticCurvePublicKey) and len(signature) == 64:
            halves = int.from_bytes(signature[:32]), int.from_bytes(signature[32:])
            key.verify(encode_dss_signature(*halves), signed, ec.ECDSA(hashes.SHA256()))
            return True
    except InvalidSignature:
        pass
    return False


def _read_keys(path: Path) -> dict[str, _Key]:
    try:
        document = json.loads(path.read_bytes())
        keys = {str(one["kid"]): _key(one) for one in document["keys"]}
    except OSError as error:
        raise BadInput(f"caller.keys: {path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, Unknown):
        raise BadInput(
            f"caller.keys: {path} is no JWKS of RSA or P-256 keys; get it by kubectl get --raw /openid/v1/jwks"
        ) from None
    if not keys:
        raise BadInput(f"caller.keys: {path} has no key; no token could be verified")
    return keys


def _key(one: Mapping[str, Any]) -> _Key:
    if one["kty"] == "RSA":
        return rsa.RSAPublicNumbers(int.from_bytes(_bytes(one["e"])), int.from_bytes(_bytes(one["n"]))).public_key()
    if one["kty"] == "EC" and one["crv"] == "P-256":
        x, y = (int.from_bytes(_bytes(one[axis])) for axis in "xy")
        return ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    raise ValueError("unknown kind of key")


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise Unknown("the token is no JWT") from None


def _json(text: str) -> dict[str, Any]:
    try:
        found = json.loads(_bytes(text))
    except (ValueError, RecursionError):
        raise Unknown("the token is no JWT") from None
    if not isinstance(found, dict):
        raise Unknown("the token is no JWT")
    return found
