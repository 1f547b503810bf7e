"""Masking of secrets, before a record exists.

Values of variables are masked where their name or their shape says "secret"; references
to Secrets stay, since they name no value.
"""

from __future__ import annotations

import re
from typing import Any

MASK = "***"
# A count of tokens is none, as in --max-num-batched-tokens.
_TOKEN_NAMES = r"(?:access|api|auth|bearer|refresh|secret)[-_]?tokens|token(?!iz|s)"  # noqa: S105  # a pattern, no password
_NAME = re.compile(
    rf"{_TOKEN_NAMES}|passw|secret|api_?key|access_?key|credential|private|auth|dsn|connection|_key$|_pat$",
    re.IGNORECASE,
)
_TOKENS = {
    "hf_": r"[A-Za-z0-9]{16,}",
    "AKIA": r"[0-9A-Z]{16}",
    **{f"gh{kind}_": r"[A-Za-z0-9]{20,}" for kind in "pousr"},
    **{f"xox{kind}-": r"[A-Za-z0-9-]{10,}" for kind in "abp"},
    "eyJ": r"[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*",
    "-----BEGIN ": r"[A-Z ]*PRIVATE KEY-----[\s\S]*",
    "nvapi-": r"[A-Za-z0-9_-]{16,}",
    "sk-": r"[A-Za-z0-9_-]{16,}",
    "sk_live_": r"[A-Za-z0-9]{16,}",
    "ASIA": r"[0-9A-Z]{16}",
    "github_pat_": r"[A-Za-z0-9_]{20,}",
    "glpat-": r"[A-Za-z0-9_-]{16,}",
    "xapp-": r"[A-Za-z0-9-]{10,}",
    "AIza": r"[A-Za-z0-9_-]{30,}",
    "ya29.": r"[A-Za-z0-9_-]{20,}",
    "npm_": r"[A-Za-z0-9]{30,}",
    "pypi-": r"[A-Za-z0-9_-]{30,}",
    "dckr_pat_": r"[A-Za-z0-9_-]{16,}",
    "SG.": r"[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}",
    "hvs.": r"[A-Za-z0-9_-]{16,}",
    "AccountKey=": r"[A-Za-z0-9+/=]{16,}",
    # Words of a sentence have no digits or capitals.
    "Bearer ": r"(?=[a-z._~+/=-]*[A-Z0-9])[A-Za-z0-9._~+/=-]{8,}",
    "Basic ": r"(?=[a-z+/]*[A-Z0-9=])[A-Za-z0-9+/=]{8,}",
}
"""How tokens begin, and what follows."""
_VALUE = re.compile("|".join(re.escape(start) + rest for start, rest in _TOKENS.items()))
_SHORTEST_VALUE = 15
"""No token is shorter."""
_URL_CREDENTIALS = re.compile(r"(?<=://)[^/@\s:]*:[^/@\s]+(?=@)")
_ASSIGNMENT = re.compile(
    r"(?P<name>\b[A-Z0-9_]*(?:TOKEN(?!IZ|S)|PASSWORD|PASSWD|SECRET|API_KEY|ACCESS_KEY|CREDENTIAL)[A-Z0-9_]*=)[^\s;&]+"
)
"""A variable in a shell's words: only in capitals, since ``token=`` is many other things."""
_ASSIGNMENT_SIGNS = ("TOKEN", "PASSW", "SECRET", "_KEY", "CREDENTIAL")
_ARGUMENT = re.compile(
    rf"(?P<name>(?<!-)--?[A-Za-z0-9_.-]{{0,64}}(?:{_TOKEN_NAMES}|passw|secret|api[-_]?key|access[-_]?key|credential)[A-Za-z0-9_.-]{{0,64}}[= ])\S+",  # noqa: E501  # one pattern
    re.IGNORECASE,
)
_ARGUMENT_SIGNS = ("token", "passw", "secret", "key", "credential")
_SIGNED_QUERY = re.compile(
    r"(?<=[?&])((?:X-Amz-Signature|X-Amz-Credential|sig|token|Signature)=)[^&\s]+", re.IGNORECASE
)


def mask_text(text: str) -> str:
    """Mask what looks like a secret anywhere in a text.

    Nearly every text has none, and looking for a few characters first costs a tenth of
    what the patterns do; each pattern needs the characters that are looked for.
    """
    if "@" in text and "://" in text:
        text = _URL_CREDENTIALS.sub(MASK, text)
    if "=" in text and ("?" in text or "&" in text):
        text = _SIGNED_QUERY.sub(rf"\1{MASK}", text)
    if "-" in text and ("=" in text or " " in text) and _may_name_secret(text):
        text = _ARGUMENT.sub(rf"\g<name>{MASK}", text)
    if "=" in text and any(sign in text for sign in _ASSIGNMENT_SIGNS):
        text = _ASSIGNMENT.sub(rf"\g<name>{MASK}", text)
    if len(text) >= _SHORTEST_VALUE:
        for start in _TOKENS:
            if start in text:
                return _VALUE.sub(MASK, text)
    return text


def _may_name_secret(text: str) -> bool:
    # Taking no notice of case, the pattern finds other letters too, as a long s.
    small = text.lower()
    return not text.isascii() or any(sign in small for sign in _ARGUMENT_SIGNS)


def mask(value: Any) -> Any:
    """A copy of a JSON value without secrets; ``{name, value}`` pairs are variables."""
    if isinstance(value, str):
        return mask_text(value)
    if isinstance(value, list):
        return _mask_list(value)
    if isinstance(value, dict):
        masked = {key: mask_text(entry) if type(entry) is str else mask(entry) for key, entry in value.items()}
        if "name" in value and "value" in value:
            name = value["name"]
            if isinstance(name, str) and isinstance(value["value"], str) and _NAME.search(name):
                masked["value"] = MASK
        return masked
    return value


def _mask_list(values: list[Any]) -> list[Any]:
    """Arguments may come as two words: the one after ``--token`` is masked too."""
    masked: list[Any] = []
    after_secret = False
    for value in values:
        text = isinstance(value, str)
        masked.append(MASK if after_secret and text else mask(value))
        after_secret = text and value.startswith("-") and _ARGUMENT.fullmatch(f"{value} x") is not None
    return masked
