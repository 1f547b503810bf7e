"""What regorus complains about, as one sentence with file, line and column."""

from __future__ import annotations

import re

_PLACE = re.compile(r"^--> (?P<file>.+):(?P<line>\d+):(?P<column>\d+)$", re.MULTILINE)
_REASON = re.compile(r"^error: (?P<reason>.*?)(?=\n--> |\n\n|\Z)", re.MULTILINE | re.DOTALL)
_BACKTRACE = "\n\nStack backtrace:"
_LONGEST = 300


def sentence(error: BaseException) -> str:
    """``file:line:column: reason``, or the first line where regorus gives no place.

    Values of the input that regorus quotes (in back quotes) are left out: a reason must
    not carry what the author of a pod wrote.
    """
    text = str(error).split(_BACKTRACE)[0].strip()
    place, reason = _PLACE.search(text), _REASON.search(text)
    words = " ".join((reason["reason"] if reason else text).split())
    words = re.sub(r"Got `.*` instead", "It got another type", words)[:_LONGEST] or "evaluation failed"
    return f"{place['file']}:{place['line']}:{place['column']}: {words}" if place else words
