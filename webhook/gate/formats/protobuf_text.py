"""Protocol buffers' text format, read without the messages' definitions.

Enough for what TensorFlow Data Validation writes: ``name: value``, ``name { ... }``, strings
with escapes, enumerations, numbers. Every field is a list, since only a definition tells which
are repeated. Source: protobuf.dev/reference/protobuf/textformat-spec.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_TOKEN = re.compile(
    r"""[\s,;]+|\#[^\n]*|(?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')"""
    r"""|(?P<word>[-\w.+]+)|(?P<mark>[{}<>:\[\]])"""
)
_ESCAPE = re.compile(rb"\\([0-7]{1,3}|x[0-9a-fA-F]{1,2}|.)")
_NAMED = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v"}
_CLOSING = {"{": "}", "<": ">"}
_DEEPEST = 50

Token = tuple[str, str, int]
"""Kind (string, word, mark or end), text and line."""


def parse_text_format(text: str) -> dict[str, list[Any]]:
    """Field values by field name; raises ``ValueError`` with the line."""
    tokens = _tokens(text)
    return _message(tokens, next(tokens), "", 0)


def _tokens(text: str) -> Iterator[Token]:
    position, line = 0, 1
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            raise ValueError(f"line {line}: {text[position]!r} is not understood")
        if found.lastgroup:
            yield found.lastgroup, found[0], line
        line += found[0].count("\n")
        position = found.end()
    while True:
        yield "end", "", line


def _message(tokens: Iterator[Token], token: Token, closing: str, depth: int) -> dict[str, list[Any]]:
    if depth > _DEEPEST:
        raise ValueError(f"line {token[2]}: messages are nested more than {_DEEPEST} deep")
    fields: dict[str, list[Any]] = {}
    while True:
        kind, text, line = token
        if (kind, text) == ("mark", closing) or (kind == "end" and not closing):
            return fields
        if kind != "word":
            raise ValueError(f"line {line}: expected a field name, found {text or 'the end'!r}")
        token = next(tokens)
        if token[:2] == ("mark", ":"):
            token = next(tokens)
        fields.setdefault(text, []).append(_value(tokens, token, depth))
        token = next(tokens)


def _value(tokens: Iterator[Token], token: Token, depth: int) -> Any:
    kind, text, line = token
    if kind == "mark" and text in _CLOSING:
        return _message(tokens, next(tokens), _CLOSING[text], depth + 1)
    if kind == "string":
        return _ESCAPE.sub(_unescaped, text[1:-1].encode()).decode("utf-8", "replace")
    if kind == "word":
        return text
    raise ValueError(f"line {line}: expected a value, found {text or 'the end'!r}")


def _unescaped(found: re.Match[bytes]) -> bytes:
    """Octal and hexadecimal escapes are bytes of UTF-8, not characters."""
    code = found[1]
    if code[:1] in b"01234567":
        return bytes([int(code, 8) & 0xFF])
    return bytes([int(code[1:], 16)]) if code[:1] == b"x" and len(code) > 1 else _NAMED.get(code, code)
