"""Drift: the statistics against scipy and Evidently's formula, the profile, and the bounded windows."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from tests.serving_runtime.conftest import Runtime

Numbers = npt.NDArray[np.float64]


def evidently_psi(reference: Numbers, current: Numbers, edges: Numbers) -> float:
    """As ``evidently.calculations.stattests.psi`` does it: shares by bin, with what it puts for an empty one."""
    shares = []
    for values in (reference, current):
        found = np.histogram(values, edges)[0] / len(values)
        least = min(found[found != 0])
        np.place(found, found == 0, least / 10**6 if least <= 0.0001 else 0.0001)
        shares.append(found)
    one, other = shares
    return sum((one[place] - other[place]) * np.log(one[place] / other[place]) for place in range(len(one)))


@pytest.mark.parametrize(("shift", "size"), [(0.0, 1000), (0.5, 1000), (3.0, 300), (8.0, 20_000)])
def test_psi_is_evidentlys_for_the_same_bins(shift: float, size: int) -> None:
    from tidewaiter_runtime.drift.profile import bin_counts, feature_profile
    from tidewaiter_runtime.drift.statistics import psi

    source = np.random.default_rng(5)
    reference, current = source.normal(0, 1, 20_000), source.normal(shift, 1, size)
    profile = feature_profile("x", reference)
    edges = np.array([-np.inf, *profile.edges, np.inf])
    expected = evidently_psi(reference, current, edges)
    assert psi(profile.counts, bin_counts(current, profile.edges)) == pytest.approx(expected, rel=1e-9)
    assert sum(profile.counts) == 20_000


@pytest.mark.parametrize(
    ("now", "evidently"), [([30, 40, 20, 10], 0.1799747946489626), ([30, 40, 30, 0], 0.5450143531936353)]
)
def test_psi_of_few_values_is_what_evidently_itself_says(now: list[int], evidently: float) -> None:
    """Evidently takes numbers of at most 20 different values as categories; the profile has a bin for each of them.

    The figures are from evidently 0.7.23, ``stattests.psi._psi`` of these very values.
    """
    from tidewaiter_runtime.drift.profile import bin_counts, feature_profile
    from tidewaiter_runtime.drift.statistics import psi

    reference, current = np.repeat([0.0, 1, 2, 3], [50, 30, 15, 5]), np.repeat([0.0, 1, 2, 3], now)
    profile = feature_profile("x", reference)
    assert psi(profile.counts, bin_counts(current, profile.edges)) == pytest.approx(evidently, rel=1e-12)


def test_a_value_on_an_edge_is_counted_as_numpy_counts_it() -> None:
    from tidewaiter_runtime.drift.profile import bin_counts

    values = np.array([0.0, 1.0, 1.5, 2.0, 3.0])
    assert bin_counts(values, (1.0, 2.0)) == np.histogram(values, [-np.inf, 1, 2, np.inf])[0].tolist() == [1, 2, 2]


def test_ks_is_scipys_and_near_that_of_the_whole_reference() -> None:
    from tidewaiter_runtime.drift.profile import feature_profile
    from tidewaiter_runtime.drift.statistics import ks

    source = np.random.default_rng(6)
    reference, current = source.gamma(2, 1, 50_000), source.gamma(2.4, 1, 800)
    sample = feature_profile("x", reference).sample
    assert len(sample) == 2000
    found = ks(sample, current.tolist())
    assert found == pytest.approx(tuple(stats.ks_2samp(sample, current, method="asymp")))
    assert found[0] == pytest.approx(stats.ks_2samp(reference, current).statistic, abs=0.002)


def test_psi_without_drift_exceeds_what_is_said_to_be_chance_in_one_of_twenty_windows() -> None:
    from tidewaiter_runtime.drift.profile import bin_counts, feature_profile
    from tidewaiter_runtime.drift.statistics import psi, psi_by_chance, psi_samples_needed

    source = np.random.default_rng(7)
    profile = feature_profile("x", source.normal(0, 1, 20_000))

    def share_above(size: int, limit: float) -> float:
        windows = source.normal(0, 1, (2000, size))
        return float(np.mean([psi(profile.counts, bin_counts(one, profile.edges)) > limit for one in windows]))

    # 2000 windows: the binomial interval of 5 % is from 4.1 % to 6.0 %.
    assert 0.041 <= share_above(500, psi_by_chance(10, 20_000, 500)) <= 0.062
    needed = psi_samples_needed(10, 20_000, 0.1)
    assert needed == math.ceil(1 / (0.1 / stats.chi2.ppf(0.95, 9) - 1 / 20_000))
    assert share_above(int(needed), 0.1) <= 0.065
    assert share_above(int(needed / 4), 0.1) > 0.5
    assert psi_samples_needed(10, 100, 0.1) == math.inf


def test_a_feature_of_few_values_has_a_bin_for_each() -> None:
    from tidewaiter_runtime.drift.profile import feature_profile

    profile = feature_profile("x", np.array([0, 1, 1, 5, 5, 5, np.nan, np.inf]))
    assert (profile.edges, profile.counts, profile.count) == ((0.5, 3.0), (1, 2, 3), 6)


def test_a_window_is_bounded_and_a_fair_sample_of_what_came_by() -> None:
    from tidewaiter_runtime.drift.window import Window

    window = Window(500, 60, random.Random(1))  # noqa: S311  # the same values each time
    for number in range(50_000):
        window.add(float(number), 10.0)
    values = window.values(10.0)
    assert len(values) == 500
    assert stats.kstest(values, "uniform", (0, 50_000)).pvalue > 0.01


def test_a_window_ends_and_the_one_before_speaks_until_the_new_one_has_as_much() -> None:
    from tidewaiter_runtime.drift.window import Window

    window = Window(10, 60, random.Random(1))  # noqa: S311  # the same values each time
    for _ in range(3):
        window.add(1.0, 0.0)
    window.add(2.0, 61.0)
    assert list(window.values(62.0)) == [1.0, 1.0, 1.0]
    window.add(2.0, 63.0)
    window.add(2.0, 63.0)
    assert list(window.values(64.0)) == [2.0, 2.0, 2.0]
    assert list(window.values(125.0)) == [2.0, 2.0, 2.0]
    assert list(window.values(500.0)) == []


def test_a_profile_is_written_from_csv_and_npz_and_read_again(runtime: Runtime, tmp_path: Path) -> None:
    from tidewaiter_runtime.drift.profile import read_profile

    source = np.random.default_rng(8)
    table = source.normal(0, 1, (500, 2))
    rows = [f"{a},{b},word,{a + b}" for a, b in table]
    (tmp_path / "data.csv").write_text("\n".join(["age,income,country,score", *rows]))
    np.savez(tmp_path / "data.npz", x=table, score=table.sum(axis=1))
    about = ("--model", "iris", "--model-version", "3", "--prediction", "score", "--registered", "2026-01-31T12:00:00Z")
    for name, features in (("data.csv", ["age", "income", "score"]), ("data.npz", ["x.0", "x.1", "score"])):
        ended = runtime("profile", tmp_path / name, *about, "--output", tmp_path / "profile.json")
        assert (ended.code, ended.err) == (0, "")
        profile = read_profile(tmp_path / "profile.json")
        assert (profile.model, profile.version, profile.prediction) == ("iris", "3", "score")
        assert profile.registered == "2026-01-31T12:00:00+00:00"
        assert list(profile.features) == features
        assert profile.features[features[0]].counts == (50,) * 10


@pytest.mark.parametrize(
    ("content", "arguments", "problem"),
    [
        ("a,b\n1,2\n3\n", [], "data.csv:3: found 1 fields; expected 2"),
        ("a,a\n1,2\n", [], "or one twice"),
        ("a\nword\n", [], "no column of numbers"),
        ("a\n1\n", ["--features", "b"], "no column of numbers named 'b'; it has a"),
        ("a\n1\n", ["--bins", "1"], "--bins: found 1"),
        ("a\n1\n", ["--registered", "yesterday"], "--registered: found 'yesterday'"),
        ("a\n1\n", ["--registered", "2026-01-31T12:00:00"], "expected a time with its zone"),
    ],
)
def test_data_that_make_no_profile_are_named(
    runtime: Runtime, tmp_path: Path, content: str, arguments: list[str], problem: str
) -> None:
    (tmp_path / "data.csv").write_text(content)
    ended = runtime("profile", tmp_path / "data.csv", "--model", "m", "--model-version", "1", *arguments)
    assert (ended.code, problem in ended.err) == (2, True), ended.err


def test_an_npz_with_pickled_objects_is_not_opened(runtime: Runtime, tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=np.array([{"a": 1}], dtype=object))
    ended = runtime("profile", tmp_path / "data.npz", "--model", "m", "--model-version", "1")
    assert (ended.code, "is no .npz of numbers" in ended.err) == (2, True), ended.err


@pytest.mark.parametrize("content", ["", "{}", "[]", json.dumps({"format": 1, "features": {"x": {}}}), "{" * 9000])
def test_a_file_that_is_no_profile_is_refused(tmp_path: Path, content: str) -> None:
    from tidewaiter_runtime.drift.profile import read_profile
    from tidewaiter_runtime.refusals import BadInput

    (tmp_path / "profile.json").write_text(content)
    with pytest.raises(BadInput, match=r"profile\.json is no profile|is of another format"):
        read_profile(tmp_path / "profile.json")
