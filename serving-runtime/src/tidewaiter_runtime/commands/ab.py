"""``tidewaiter-runtime ab``."""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path

from tidewaiter_runtime.refusals import BadInput, Refusal

SUMMARY = "compare two versions of a model by their records, or say how many records that takes"
_NAMES = ("accuracy", "precision", "recall", "f1", "latency")


class NotShown(Refusal):
    """It is not shown that version B is no worse."""

    exit_code = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("what", choices=("size", "test"), help="size: how many records; test: compare A and B")
    parser.add_argument("--metric", action="append", choices=_NAMES, help="again for several; accuracy without any")
    parser.add_argument("--alpha", type=float, default=0.05, help="how often it may be wrong (%(default)s)")
    parser.add_argument("--positive", default="1", help="class of precision, recall and f1 (%(default)s)")
    test = parser.add_argument_group("test")
    test.add_argument("--a", type=Path, help="records of the version that serves: JSON lines, or CSV")
    test.add_argument("--b", type=Path, help="records of the version that is tried")
    test.add_argument(
        "--sequential", type=int, metavar="PLANNED", help="may look at any time; records of both that are planned for"
    )
    test.add_argument(
        "--margin", action="append", default=[], metavar="METRIC=0.01", help="how much worse B may be; 0 without"
    )
    test.add_argument("--format", choices=("text", "json"), default="text", help="json is what tidewaiter gate reads")
    test.add_argument("--output", type=Path, help="file for the result; else it is printed")
    size = parser.add_argument_group("size")
    size.add_argument("--effect", type=float, help="difference to be seen; of latency its part: 0.05 is 5 %%")
    size.add_argument("--power", type=float, default=0.8, help="how often it shall be seen (%(default)s)")
    size.add_argument("--baseline", type=float, help="what A has, for accuracy, precision and recall")
    size.add_argument("--share", type=float, default=1.0, help="of records that count: positive ones, for recall")
    size.add_argument("--pilot", type=Path, help="records of A, instead of --baseline; f1 and latency need them")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    options.metric = options.metric or ["accuracy"]
    if not 0 < options.alpha < 0.5:
        raise BadInput(f"--alpha: found {options.alpha:g}; expected more than 0 and less than 0.5")
    if options.what == "size":
        _size(options)
    else:
        _test(options)


def _test(options: argparse.Namespace) -> None:
    from tidewaiter_runtime.ab.records import read_records
    from tidewaiter_runtime.ab.verdict import Plan, as_metrics, as_text, compare, passed

    if options.a is None or options.b is None:
        raise BadInput("test needs --a and --b: the records of both versions")
    if options.sequential is not None and options.sequential < 200:
        raise BadInput(f"--sequential: found {options.sequential}; expected 200 records or more of both versions")
    margins = dict(_margin(one) for one in options.margin)
    plan = Plan(tuple(dict.fromkeys(options.metric)), options.alpha, options.sequential, margins, options.positive)
    compared = compare(read_records(options.a), read_records(options.b), plan)
    text = as_text(compared) if options.format == "text" else json.dumps(as_metrics(compared), indent=2) + "\n"
    if options.output:
        try:
            options.output.write_text(text)
        except OSError as error:
            raise BadInput(f"--output {options.output}: cannot be written: {error.strerror}") from None
    else:
        sys.stdout.write(text)
        sys.stdout.flush()
    if not passed(compared):
        wanting = [f"{one.metric.name} ({one.verdict})" for one in compared if not one.no_worse]
        raise NotShown(f"it is not shown that version B is no worse: {', '.join(wanting)}")


def _margin(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        margin = float(value)
    except ValueError:
        margin = math.nan
    if name not in _NAMES or not 0 <= margin < 1:
        raise BadInput(f"--margin: found {text[:40]!r}; expected one of {', '.join(_NAMES)} with a number, as f1=0.01")
    return name, math.log1p(margin) if name == "latency" else margin


def _size(options: argparse.Namespace) -> None:
    from tidewaiter_runtime.ab.metrics import METRICS, estimate, pairs_of
    from tidewaiter_runtime.ab.records import read_records
    from tidewaiter_runtime.ab.sample_size import of_sequence, of_shares, of_variance

    if len(options.metric) != 1 or not options.effect or not math.isfinite(options.effect):
        raise BadInput("size needs one --metric and an --effect that is not 0")
    if not 0.5 <= options.power < 1:
        raise BadInput(f"--power: found {options.power:g}; expected 0.5 or more and less than 1")
    (metric,) = options.metric
    effect = math.log1p(options.effect) if metric == "latency" and options.effect > -1 else options.effect
    if options.pilot is not None:
        pairs = pairs_of(read_records(options.pilot), METRICS[metric], options.positive)
        variance = estimate(pairs, f"{metric} of {options.pilot}", share=metric != "latency").variance
        count = of_variance(variance, effect, options.alpha, options.power)
    else:
        variance = _variance_of_share(options, metric)
        # A record that does not count for the metric tells nothing: more are needed by as much.
        count = math.ceil(of_shares(options.baseline, effect, options.alpha, options.power) / options.share)
    sequence = of_sequence(variance, effect, options.alpha, options.power)
    print(
        f"{metric}: {count} records of each version for a difference of {options.effect:+g}"
        f" with power {options.power:g} at alpha {options.alpha:g}, looked at once;"
        f" sequential: {sequence} at most, planned as --sequential {2 * sequence}"
    )


def _variance_of_share(options: argparse.Namespace, metric: str) -> float:
    if metric in ("f1", "latency"):
        raise BadInput(f"{metric} needs --pilot: its variance does not follow from a baseline")
    if options.baseline is None or not 0 < options.baseline < 1 or not 0 < options.baseline + options.effect < 1:
        raise BadInput("--baseline: expected a share between 0 and 1, and with --effect one as well; or give --pilot")
    if not 0 < options.share <= 1:
        raise BadInput(f"--share: found {options.share:g}; expected more than 0 and at most 1")
    changed = options.baseline + options.effect
    return float((options.baseline * (1 - options.baseline) + changed * (1 - changed)) / 2 / options.share)
