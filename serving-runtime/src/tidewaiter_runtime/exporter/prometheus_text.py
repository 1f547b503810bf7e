"""Reads the metrics of another exporter over HTTP, with limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.error import URLError
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

_LARGEST = 16 << 20


class Unscraped(Exception):  # noqa: N818  # the next scrape may succeed
    """There was no answer, or none in Prometheus' text format."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One line."""

    name: str
    labels: Mapping[str, str]
    value: float


def scrape(url: str, limit_s: float = 5.0) -> list[Sample]:
    """All samples of a page; raises Unscraped."""
    try:
        with urlopen(url, timeout=limit_s) as answer:  # noqa: S310  # the command checked that it is http
            content = answer.read(_LARGEST + 1)
    except (URLError, OSError) as error:
        raise Unscraped(f"{url}: {getattr(error, 'reason', error)}") from None
    if len(content) > _LARGEST:
        raise Unscraped(f"{url}: more than {_LARGEST:,} bytes")
    return list(read(content.decode(errors="replace")))


def read(text: str) -> Iterator[Sample]:
    """The samples of a text; raises Unscraped."""
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                yield Sample(sample.name, sample.labels, float(sample.value))
    except (ValueError, LookupError) as error:
        raise Unscraped(f"not Prometheus' text format: {error}") from None
