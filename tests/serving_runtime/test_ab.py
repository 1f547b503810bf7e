"""A/B tests: how often they are wrong, how often they see what is there, and what they write for the gate."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import optimize, stats

from tests.serving_runtime.conftest import Runtime

ALPHA = 0.05


def write(path: Path, answers: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in answers))
    return path


def answers(
    seed: int, accuracy: float, count: int, latency_ms: float = 10, positives: float = 0.5
) -> list[dict[str, object]]:
    """Records of a binary model with this accuracy on both classes."""
    source = np.random.default_rng(seed)
    found: list[dict[str, object]] = []
    for _ in range(count):
        label = int(source.random() < positives)
        right = source.random() < accuracy
        latency = round(float(source.lognormal(math.log(latency_ms), 0.3)), 4)
        found.append({"label": label, "prediction": label if right else 1 - label, "latency_ms": latency})
    return found


def test_the_metrics_are_those_of_their_textbook_definitions() -> None:
    from tidewaiter_runtime.ab.metrics import METRICS, estimate, pairs_of
    from tidewaiter_runtime.ab.records import Record

    counts = {("1", "1"): 30, ("0", "1"): 10, ("1", "0"): 20, ("0", "0"): 60}
    records = [Record(label, said, 5.0) for (label, said), count in counts.items() for _ in range(count)]
    found = {
        name: estimate(pairs_of(records, METRICS[name], "1"), name, share=name != "latency").value for name in METRICS
    }
    precision, recall = 30 / 40, 30 / 50
    assert found == pytest.approx(
        {
            "accuracy": 90 / 120,
            "precision": precision,
            "recall": recall,
            "f1": 2 * precision * recall / (precision + recall),
            "latency": math.log(5),
        }
    )


@pytest.mark.parametrize("name", ["accuracy", "precision", "recall", "f1", "latency"])
def test_the_standard_error_is_what_repeating_the_experiment_shows(name: str) -> None:
    from tidewaiter_runtime.ab.metrics import METRICS, estimate, pairs_of
    from tidewaiter_runtime.ab.records import Record

    source = np.random.default_rng(11)
    values, errors = [], []
    for _ in range(600):
        labels = source.random(400) < 0.4
        said = np.where(source.random(400) < 0.8, labels, ~labels)
        latencies = source.lognormal(2, 0.5, 400)
        records = [Record(str(int(a)), str(int(b)), float(c)) for a, b, c in zip(labels, said, latencies, strict=True)]
        found = estimate(pairs_of(records, METRICS[name], "1"), name, share=name != "latency")
        values.append(found.value)
        errors.append(math.sqrt(found.squared_error))
    assert float(np.mean(errors)) == pytest.approx(float(np.std(values)), rel=0.1)


def _proportions(
    seed: int, a: float, b: float, size: int, looks: list[int]
) -> list[list[tuple[float, float, float, float]]]:
    """For each look: the estimates of many repetitions as (value, variance) of A and B, by cumulative sums."""
    source = np.random.default_rng(seed)
    sums = [np.cumsum(source.random((1000, size)) < share, axis=1) for share in (a, b)]
    found = []
    for look in looks:
        shares = [one[:, look - 1] / look for one in sums]
        found.append([(x, x * (1 - x), y, y * (1 - y)) for x, y in zip(*shares, strict=True)])
    return found


def test_the_fixed_test_is_wrong_as_often_as_alpha_says_and_far_more_often_when_peeked_at() -> None:
    from tidewaiter_runtime.ab.inference import fixed
    from tidewaiter_runtime.ab.metrics import Estimate

    looks = list(range(100, 4001, 100))
    rejected = np.zeros((len(looks), 1000), dtype=bool)
    for place, (look, repetitions) in enumerate(zip(looks, _proportions(1, 0.8, 0.8, 4000, looks), strict=True)):
        for number, (x, vx, y, vy) in enumerate(repetitions):
            difference = fixed(Estimate(x, vx, look), Estimate(y, vy, look), ALPHA)
            rejected[place, number] = not difference.lower <= 0 <= difference.upper
    # 1000 repetitions: the binomial interval of 5 % is from 3.7 % to 6.5 %.
    assert 0.037 <= rejected[-1].mean() <= 0.065
    assert rejected.any(axis=0).mean() > 0.2


def test_the_sequential_test_is_wrong_less_often_than_alpha_over_all_looks_together() -> None:
    from tidewaiter_runtime.ab.inference import sequential
    from tidewaiter_runtime.ab.metrics import Estimate

    looks = list(range(100, 4001, 50))
    rejected = np.zeros(1000, dtype=bool)
    for look, repetitions in zip(looks, _proportions(2, 0.8, 0.8, 4000, looks), strict=True):
        for number, (x, vx, y, vy) in enumerate(repetitions):
            difference = sequential(Estimate(x, vx, look), Estimate(y, vy, look), ALPHA, 4000)
            rejected[number] |= not difference.lower <= 0 <= difference.upper
    assert rejected.mean() <= ALPHA


def test_at_the_computed_size_the_difference_is_seen_as_often_as_the_power_says() -> None:
    from tidewaiter_runtime.ab.inference import fixed, sequential
    from tidewaiter_runtime.ab.metrics import Estimate
    from tidewaiter_runtime.ab.sample_size import of_sequence, of_shares

    size = of_shares(0.8, 0.04, ALPHA, 0.8)
    (repetitions,) = _proportions(3, 0.8, 0.84, size, [size])
    seen = [fixed(Estimate(x, vx, size), Estimate(y, vy, size), ALPHA).lower > 0 for x, vx, y, vy in repetitions]
    # 1000 repetitions: the binomial interval of 80 % is from 77.4 % to 82.4 %.
    assert 0.774 <= np.mean(seen) <= 0.825

    longer = of_sequence((0.8 * 0.2 + 0.84 * 0.16) / 2, 0.04, ALPHA, 0.8)
    assert longer > size
    (repetitions,) = _proportions(4, 0.8, 0.84, longer, [longer])
    found = [
        sequential(Estimate(x, vx, longer), Estimate(y, vy, longer), ALPHA, 2 * longer).lower > 0
        for x, vx, y, vy in repetitions
    ]
    assert 0.774 <= np.mean(found) <= 0.825


@pytest.mark.parametrize(("baseline", "effect"), [(0.9, 0.01), (0.5, 0.05), (0.8, -0.03), (0.02, 0.01)])
def test_the_size_for_shares_is_where_scipys_normal_power_reaches_the_power_asked_for(
    baseline: float, effect: float
) -> None:
    from tidewaiter_runtime.ab.sample_size import of_shares

    changed = baseline + effect
    mean = (baseline + changed) / 2

    def power(count: float) -> float:
        """As statsmodels' power_proportions_2indep has it: the variance under the null hypothesis, and under the other."""
        null = math.sqrt(2 * mean * (1 - mean) / count)
        other = math.sqrt((baseline * (1 - baseline) + changed * (1 - changed)) / count)
        return float(stats.norm.sf((stats.norm.isf(ALPHA / 2) * null - abs(effect)) / other))

    exact = optimize.brentq(lambda count: power(count) - 0.8, 10, 1e7)
    assert of_shares(baseline, effect, ALPHA, 0.8) == math.ceil(exact)


def test_the_confidence_sequence_is_narrowest_near_the_planned_size() -> None:
    """Against the published formula, written another way: with its square root of the mixture's variance."""
    from tidewaiter_runtime.ab.inference import sequential_radius

    def published(t: int, sigma: float, planned: int) -> float:
        rho = math.sqrt((-2 * math.log(ALPHA) + math.log(-2 * math.log(ALPHA)) + 1) / planned)
        return sigma * math.sqrt(2 * (t * rho**2 + 1) / (t**2 * rho**2) * math.log(math.sqrt(t * rho**2 + 1) / ALPHA))

    for count, planned in ((200, 1000), (1000, 1000), (9000, 1000)):
        assert sequential_radius(4 / count, count, ALPHA, planned) == pytest.approx(published(count, 2, planned))
    at = {planned: sequential_radius(1 / 2000, 2000, ALPHA, planned) for planned in (200, 2000, 20_000)}
    assert at[2000] < at[200]
    assert at[2000] < at[20_000]


def test_a_better_version_passes_and_the_gate_reads_the_verdict(runtime: Runtime, tmp_path: Path) -> None:
    from webhook.cli import main

    a, b = write(tmp_path / "a.jsonl", answers(1, 0.80, 2000)), write(tmp_path / "b.jsonl", answers(2, 0.86, 2000))
    evidence = tmp_path / "evidence"
    evidence.mkdir()
    metrics = [part for name in ("accuracy", "precision", "recall", "f1") for part in ("--metric", name)]
    ended = runtime("ab", "test", "--a", a, "--b", b, *metrics, "--format", "json", "--output", evidence / "ab.json")
    assert (ended.code, ended.err) == (0, "")
    found = json.loads((evidence / "ab.json").read_text())
    assert found["ab_passed"] == 1
    assert found["ab_accuracy_lower"] > 0
    gates = tmp_path / "gates.yaml"
    thresholds = "ab_passed: {min: 1}, ab_f1_lower: {min: -0.01}"
    gates.write_text(f"gates: {{production: {{metrics: {{{thresholds}}}}}}}\n")
    command = ["gate", "--model", "m", "--version", "2", "--env", "production", "--gates", str(gates), str(evidence)]
    judged = CliRunner().invoke(main, command)
    assert judged.exit_code == 0, judged.output
    runtime("ab", "test", "--a", b, "--b", a, *metrics, "--format", "json", "--output", evidence / "ab.json")
    judged = CliRunner().invoke(main, command)
    assert judged.exit_code == 1, judged.output
    assert "metrics.ab_passed: expected at least 1, found 0" in judged.output


def test_a_worse_version_fails_and_one_that_is_unclear_is_said_to_be_so(runtime: Runtime, tmp_path: Path) -> None:
    a = write(tmp_path / "a.jsonl", answers(1, 0.86, 2000, latency_ms=10))
    b = write(tmp_path / "b.jsonl", answers(2, 0.80, 2000, latency_ms=12))
    ended = runtime("ab", "test", "--a", a, "--b", b, "--metric", "accuracy", "--metric", "latency")
    assert ended.code == 1
    assert "accuracy: worse" in ended.out
    assert "latency: worse: A 9.9" in ended.out or "latency: worse: A 10." in ended.out
    assert "not shown that version B is no worse: accuracy (worse), latency (worse)" in ended.err
    same = write(tmp_path / "c.jsonl", answers(3, 0.86, 2000, latency_ms=10))
    assert "accuracy: undecided" in runtime("ab", "test", "--a", a, "--b", same).out
    allowed = runtime("ab", "test", "--a", a, "--b", same, "--margin", "accuracy=0.05", "--sequential", "4000")
    assert (allowed.code, "accuracy: no worse" in allowed.out) == (0, True)
    slower = ("ab", "test", "--a", a, "--b", b, "--metric", "latency", "--margin")
    assert runtime(*slower, "latency=0.30").code == 0
    assert runtime(*slower, "latency=0.10").code == 1


def test_a_version_that_was_always_right_is_not_thought_certain(runtime: Runtime, tmp_path: Path) -> None:
    right = write(tmp_path / "a.jsonl", [{"label": 1, "prediction": 1}] * 200)
    ended = runtime("ab", "test", "--a", right, "--b", right, "--format", "json")
    assert ended.code == 1
    assert json.loads(ended.out)["ab_accuracy_upper"] > 0.005


def test_records_are_read_from_csv_too(runtime: Runtime, tmp_path: Path) -> None:
    for name, wrong in (("a", 60), ("b", 20)):
        rows = ["label,prediction,latency_ms"] + [f"1,{int(number >= wrong)}.0,5" for number in range(300)]
        (tmp_path / f"{name}.csv").write_text("\n".join(rows))
    ended = runtime("ab", "test", "--a", tmp_path / "a.csv", "--b", tmp_path / "b.csv", "--format", "json")
    assert ended.code == 0
    found = json.loads(ended.out)
    assert (found["ab_accuracy_a"], found["ab_accuracy_b"]) == (0.8, pytest.approx(280 / 300))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "has no records"),
        ("[1]\n", "a.jsonl:1: expected a JSON object"),
        ("[" * 100_000, "a.jsonl:1: expected a JSON object"),
        ('{"label": 1}\n{"label": }\n', "a.jsonl:2: expected a JSON object"),
        ('{"label": [1], "prediction": 1}\n', "a.jsonl:1: found '[1]'; expected a class"),
        ('{"latency_ms": "fast"}\n', "latency_ms: found 'fast'; expected a number above 0"),
        ('{"latency_ms": 0}\n', "expected a number above 0"),
        ('{"latency_ms": NaN}\n', "expected a number above 0"),
        ('{"label": 1, "prediction": 1}\n', "found 1 records that have it; expected at least 100"),
    ],
)
def test_records_that_cannot_be_used_are_named(runtime: Runtime, tmp_path: Path, content: str, problem: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(content)
    ended = runtime("ab", "test", "--a", path, "--b", path)
    assert (ended.code, problem in ended.err) == (2, True), ended.err


def test_the_size_is_told_for_a_baseline_or_a_pilot(runtime: Runtime, tmp_path: Path) -> None:
    told = runtime("ab", "size", "--effect", "0.01", "--baseline", "0.9")
    assert (told.code, "accuracy: 13495 records of each version" in told.out) == (0, True), told.out
    share = runtime("ab", "size", "--effect", "0.01", "--baseline", "0.9", "--metric", "recall", "--share", "0.1")
    assert "recall: 134950 records" in share.out
    pilot = write(tmp_path / "a.jsonl", answers(1, 0.9, 4000))
    by_pilot = runtime("ab", "size", "--effect", "0.01", "--pilot", pilot)
    assert int(by_pilot.out.split()[1]) == pytest.approx(13495, rel=0.1)
    assert "give" not in runtime("ab", "size", "--effect", "0.05", "--pilot", pilot, "--metric", "latency").err
    for arguments in (
        ["--effect", "0.01"],
        ["--effect", "0", "--baseline", "0.9"],
        ["--effect", "0.2", "--baseline", "0.9"],
    ):
        assert runtime("ab", "size", *arguments).code == 2
    assert "needs --pilot" in runtime("ab", "size", "--effect", "0.01", "--baseline", "0.9", "--metric", "f1").err
