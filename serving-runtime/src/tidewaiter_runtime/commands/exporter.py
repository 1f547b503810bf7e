"""``tidewaiter-runtime exporter``."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tidewaiter_runtime.exporter.gpu import Gpu

SUMMARY = "tell Prometheus about the models that are served: latency, queues, GPUs, age, drift, accuracy"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("--listen", default="0.0.0.0:9400", help="HOST:PORT for Prometheus (%(default)s)")
    parser.add_argument("--triton-metrics", default="", metavar="URL", help="as http://127.0.0.1:8002/metrics")
    parser.add_argument("--gpu", choices=("off", "nvml", "dcgm"), default="off", help="where GPUs are asked about")
    parser.add_argument("--dcgm-metrics", default="", metavar="URL", help="of dcgm-exporter, for --gpu dcgm")
    parser.add_argument("--observations", type=Path, help="Unix socket to make, that the input gate sends to")
    parser.add_argument("--profile", type=Path, action="append", default=[], help="what the profile command wrote")
    parser.add_argument("--window", type=float, default=3600, metavar="SECONDS", help="of drift (%(default)s)")
    parser.add_argument("--samples", type=int, default=5000, help="kept of each feature in a window (%(default)s)")
    parser.add_argument("--predictions", type=int, default=100_000, help="that wait for their label (%(default)s)")
    parser.add_argument("--psi-threshold", type=float, default=0.2, help="that samples-needed is for (%(default)s)")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from tidewaiter_runtime.refusals import BadInput

    try:
        from tidewaiter_runtime.drift.profile import read_profile
        from tidewaiter_runtime.exporter.collecting import ModelCollector, by_version
        from tidewaiter_runtime.exporter.observed import Observed
        from tidewaiter_runtime.exporter.prometheus_text import scrape
        from tidewaiter_runtime.exporter.serving import listen, receive
    except ModuleNotFoundError as error:
        raise BadInput(f"{error.name} is not installed; pip install 'tidewaiter-runtime[exporter]'") from None

    _check(options)
    host, _, port = options.listen.rpartition(":")
    profiles = by_version(read_profile(path) for path in options.profile)
    observed = Observed(profiles, samples=options.samples, window_s=options.window, predictions=options.predictions)
    triton = options.triton_metrics
    collector = ModelCollector(
        observed, (lambda: scrape(triton)) if triton else None, _gpus(options), threshold=options.psi_threshold
    )
    end = receive(options.observations, observed) if options.observations else lambda: None
    try:
        server = listen(host.strip("[]"), int(port), collector, observed)
    except BadInput:
        end()
        raise
    # shutdown waits for the loop that this signal interrupts
    for one in (signal.SIGTERM, signal.SIGINT):
        signal.signal(one, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"tidewaiter-runtime exporter: listening on {options.listen}", file=sys.stderr, flush=True)
    try:
        server.serve_forever(poll_interval=0.2)
    finally:
        server.server_close()
        end()


def _check(options: argparse.Namespace) -> None:
    from tidewaiter_runtime.refusals import BadInput

    host, _, port = options.listen.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise BadInput(f"--listen: found {options.listen[:60]!r}; expected HOST:PORT")
    for name in ("triton_metrics", "dcgm_metrics"):
        url = getattr(options, name)
        if url and not url.startswith(("http://", "https://")):
            raise BadInput(f"--{name.replace('_', '-')}: found {url[:60]!r}; expected http://HOST:PORT/metrics")
    if (options.gpu == "dcgm") != bool(options.dcgm_metrics):
        raise BadInput("--gpu dcgm and --dcgm-metrics belong together")
    if not 1 <= options.window <= 7 * 86400 or not 100 <= options.samples <= 100_000:
        raise BadInput("--window: expected 1 to 604800 seconds; --samples: expected 100 to 100000")
    if not 1 <= options.predictions <= 10_000_000 or not 0 < options.psi_threshold < 10:
        raise BadInput("--predictions: expected 1 to 10000000; --psi-threshold: expected more than 0 and less than 10")


def _gpus(options: argparse.Namespace) -> Callable[[], Sequence[Gpu]] | None:
    from tidewaiter_runtime.exporter.gpu import from_dcgm, from_nvml
    from tidewaiter_runtime.exporter.prometheus_text import Unscraped, scrape

    if options.gpu == "dcgm":
        return lambda: from_dcgm(scrape(options.dcgm_metrics))
    if options.gpu == "off":
        return None

    import pynvml  # type: ignore[import-untyped]  # ships no types

    def ask() -> Sequence[Gpu]:
        try:
            return from_nvml(pynvml)
        except pynvml.NVMLError as error:
            raise Unscraped(str(error)) from None

    return ask
