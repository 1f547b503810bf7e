"""A reference profile: of each feature, fixed bins with their counts and a sample; written when a model is registered.

A profile has no rows, but its sample has single values of each feature. Where these are personal
data, the profile is too.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tidewaiter_runtime.refusals import BadInput

Numbers = npt.NDArray[np.float64]
_LARGEST = 1 << 30
_LARGEST_PROFILE = 64 << 20
_SAMPLE = 2000
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class FeatureProfile:
    """One feature. ``edges`` are the inner edges of the bins; the first and the last bin have no end.

    ``sample`` are quantiles of the reference, evenly spread, at most 2000 and sorted.
    """

    name: str
    count: int
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    sample: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Profile:
    """The reference of one version of a model. ``prediction`` is the feature that is the model's output, or empty."""

    model: str
    version: str
    registered: str
    features: Mapping[str, FeatureProfile]
    prediction: str = ""


def feature_profile(name: str, values: Numbers, bins: int = 10) -> FeatureProfile:
    """Bins of equal count in the reference; as many as there are different values, where these are few.

    Raises:
        BadInput: no value is a number.
    """
    finite = np.sort(values[np.isfinite(values)])
    if not finite.size:
        raise BadInput(f"feature {name!r} has no numbers")
    unique = np.unique(finite)
    if unique.size <= bins:
        edges = (unique[1:] + unique[:-1]) / 2
    else:
        edges = np.unique(np.quantile(finite, np.linspace(0, 1, bins + 1)[1:-1]))
    sample = finite if finite.size <= _SAMPLE else np.quantile(finite, (np.arange(_SAMPLE) + 0.5) / _SAMPLE)
    return FeatureProfile(
        name, int(finite.size), tuple(edges.tolist()), tuple(bin_counts(finite, edges)), tuple(sample.tolist())
    )


def bin_counts(values: Numbers, edges: Numbers | Sequence[float]) -> list[int]:
    """How many values are in each bin; a value on an edge belongs to the bin above."""
    places = np.searchsorted(np.asarray(edges, dtype=np.float64), values, side="right")
    return [int(one) for one in np.bincount(places, minlength=len(edges) + 1)]


def read_columns(path: Path) -> dict[str, Numbers]:
    """The columns of numbers of a CSV file with a header, or of an ``.npz`` file; raises BadInput."""
    try:
        if path.stat().st_size > _LARGEST:
            raise BadInput(f"{path} is larger than {_LARGEST:,} bytes; sample it: some 100,000 rows are enough")
        return _npz(path) if path.suffix == ".npz" else _csv(path)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror or error}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path} is no CSV: {error}") from None


def _csv(path: Path) -> dict[str, Numbers]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        rows = csv.reader(stream)
        header = next(rows, [])
        if not header or len(set(header)) != len(header):
            raise BadInput(f"{path}: the first line has no column names, or one twice")
        columns: list[list[float]] = [[] for _ in header]
        for number, row in enumerate(rows, 2):
            if len(row) != len(header):
                raise BadInput(f"{path}:{number}: found {len(row)} fields; expected {len(header)}")
            for column, text in zip(columns, row, strict=True):
                column.append(_number(text))
    found = {name: np.array(column) for name, column in zip(header, columns, strict=True)}
    numbers = {name: column for name, column in found.items() if np.isfinite(column).any()}
    if not numbers:
        raise BadInput(f"{path} has no column of numbers")
    return numbers


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _npz(path: Path) -> dict[str, Numbers]:
    found: dict[str, Numbers] = {}
    try:
        with np.load(path, allow_pickle=False) as arrays:
            for name in arrays.files:
                array = np.asarray(arrays[name], dtype=np.float64)
                if array.ndim == 1:
                    found[name] = array
                elif array.ndim == 2:
                    found.update((f"{name}.{number}", array[:, number]) for number in range(array.shape[1]))
    except (ValueError, EOFError) as error:
        raise BadInput(f"{path} is no .npz of numbers: {error}") from None
    if not found:
        raise BadInput(f"{path} has no array of one or two dimensions")
    return found


def write_profile(profile: Profile) -> str:
    """The profile as JSON."""
    return json.dumps({"format": _FORMAT, **asdict(profile)}, indent=1) + "\n"


def read_profile(path: Path) -> Profile:
    """The profile of a file that ``tidewaiter-runtime profile`` wrote; raises BadInput."""
    try:
        with path.open("rb") as stream:
            content = stream.read(_LARGEST_PROFILE + 1)
        if len(content) > _LARGEST_PROFILE:
            raise BadInput(f"{path} is larger than {_LARGEST_PROFILE:,} bytes")
        document = json.loads(content)
        features = {name: _feature(one) for name, one in document["features"].items()}
        if document["format"] != _FORMAT or not features:
            raise BadInput(f"{path} is of another format; write it anew")
        return Profile(
            str(document["model"]),
            str(document["version"]),
            str(document["registered"]),
            features,
            str(document["prediction"]),
        )
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, LookupError, TypeError, AttributeError):
        raise BadInput(f"{path} is no profile; expected what `tidewaiter-runtime profile` wrote") from None


def _feature(one: Mapping[str, Any]) -> FeatureProfile:
    edges = tuple(float(edge) for edge in one["edges"])
    counts = tuple(int(count) for count in one["counts"])
    sample = tuple(float(value) for value in one["sample"])
    if (
        list(edges) != sorted(edges)
        or len(counts) != len(edges) + 1
        or min(counts) < 0
        or not sum(counts)
        or not sample
    ):
        raise ValueError("bins do not fit")
    return FeatureProfile(str(one["name"]), int(one["count"]), edges, counts, sample)
