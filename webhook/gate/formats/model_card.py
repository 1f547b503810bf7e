"""A model card: Markdown with YAML front matter, as the Hugging Face hub has it.

Only headings written with ``#`` count, outside of code blocks. The hub's template fills what
nobody wrote with ``[More Information Needed]``: that is no text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from webhook.gate.binding import said_by
from webhook.gate.evidence import Card, Format, Found

_FRONT_MATTER = re.compile(r"\A\ufeff?---[ \t]*\r?\n(.*?)^---[ \t]*\r?$", re.DOTALL | re.MULTILINE)
_HEADING = re.compile(r" {0,3}(#{1,6})[ \t]+(.*?)[ \t]*#*[ \t]*")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_NO_TEXT = re.compile(r"\[more information needed\]|<!--.*?-->|[\s*_\-:]+", re.IGNORECASE | re.DOTALL)
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _recognises(text: str) -> bool:
    return _FRONT_MATTER.match(text) is not None


def _read(text: str) -> Found:
    found = _FRONT_MATTER.match(text)
    if found is None:
        raise ValueError("it has no front matter")
    try:
        metadata: Any = yaml.load(found[1], Loader=_LOADER)  # noqa: S506  # it is a safe loader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 2}: " if mark is not None else ""
        raise ValueError(f"{line}the front matter is not YAML: {getattr(error, 'problem', None) or error}") from None
    if not isinstance(metadata, dict | None):
        raise TypeError("the front matter is not a mapping of keys")
    keys = {str(key): value for key, value in (metadata or {}).items()}
    return Found(card=Card(keys, _sections(text[found.end() :])), about=said_by(keys))


def _sections(body: str) -> dict[str, str]:
    """The text below each heading, that below its own subheadings included."""
    open_headings: list[tuple[int, str]] = []
    texts: dict[str, list[str]] = {}
    for level, line in _lines(body):
        if level:
            open_headings = [one for one in open_headings if one[0] < level]
            open_headings.append((level, line))
            texts.setdefault(line, [])
        else:
            for _, heading in open_headings:
                texts[heading].append(line)
    return {heading: _NO_TEXT.sub(" ", "\n".join(lines)).strip() for heading, lines in texts.items()}


def _lines(body: str) -> Iterator[tuple[int, str]]:
    """Headings with their level, and other lines with level 0."""
    fence = ""
    for line in body.splitlines():
        opened = _FENCE.match(line)
        heading = None if fence else _HEADING.fullmatch(line)
        if opened and not fence:
            fence = opened[1]
        elif opened and opened[1].startswith(fence):
            fence = ""
        if heading:
            yield len(heading[1]), section_name(heading[2])
        else:
            yield 0, line


def section_name(heading: str) -> str:
    """A heading as it is compared: without emphasis, in lower case."""
    return re.sub(r"[*_`]", "", heading).strip().rstrip(":").lower()


CARD = Format("model card", _recognises, _read, is_text=True)
