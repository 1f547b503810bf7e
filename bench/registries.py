"""What asking a registry costs a review: from memory, and while the registry is down.

``python -m bench.registries`` prints tables, as measured on this machine. The registry is a
web server in a process of its own; for an outage it is first stopped (the kernel accepts
connections, and nothing answers), then killed. Times run from when each lookup was due.
``--faults`` measures whole admissions over TLS instead, with everything wrong that can be.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson

from admission.approval import Approval, ApprovalQuestion, Unavailable
from bench.registry_faults import measure as measure_faults
from registries.chain import RegistryChain
from registries.opening import World, open_registries
from registries.settings import RegistriesSettings

_MODELS = 200
_RATE = 500


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.registries", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of each measurement (default: %(default)s)")
    parser.add_argument("--lookups", type=int, default=50_000, help="from memory, per round (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=10, help="of an outage or fault (default: %(default)s)")
    parser.add_argument("--faults", action="store_true", help="measure admissions with each fault of a registry")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tidewaiter-bench-") as scratch:
        folder = Path(scratch)
        before = os.getloadavg()[0]
        if options.faults:
            measure_faults(folder, options.rounds, options.seconds, _two_cores())
        else:
            _write_manifests(folder / "www")
            asyncio.run(_measure(folder, options.rounds, options.lookups, options.seconds))
        after = os.getloadavg()[0]
        print(f"\nPython {sys.version.split()[0]}, load of the machine before {before:.1f}, after {after:.1f}")


def _two_cores() -> tuple[int, int]:
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        sys.exit("the benchmark needs two cores, one for the server and one for the load; there is one")
    return cpus[0], cpus[1]


def _write_manifests(folder: Path) -> None:
    for number in range(_MODELS):
        path = folder / f"model-{number}" / "1" / "manifest.json"
        path.parent.mkdir(parents=True)
        approvals = [{"environment": "production", "approvers": ["ann"]}]
        body = {"format": 1, "model": f"model-{number}", "version": "1", "state": "approved", "approvals": approvals}
        path.write_bytes(orjson.dumps(body))


async def _measure(folder: Path, rounds: int, lookups: int, seconds: float) -> None:
    questions = [ApprovalQuestion("production", f"model-{number}", "1") for number in range(_MODELS)]
    print("| | median | least | most |\n|---|---:|---:|---:|")
    with _web_server(folder / "www") as (url, process):
        first = [await _first(_chain(url, fresh=3600), questions) for _ in range(rounds)]
        _row("first question to the registry, ms", first)
        chain = _chain(url, fresh=3600)
        await _warm(chain, questions)
        _row("lookup from memory, us", [await _from_memory(chain, questions, lookups) for _ in range(rounds)])
        await chain.close()
        print("\n| the registry | p50, ms | p99, ms | worst, ms |\n|---|---:|---:|---:|")
        for name, fail in (("is silent", signal.SIGSTOP), ("refuses connections", signal.SIGKILL)):
            chain = _chain(url, fresh=2, revalidate=3)
            background = asyncio.create_task(chain.run())
            await _warm(chain, questions)
            process.send_signal(fail)
            await _outage(name, chain, questions, seconds)
            background.cancel()
            await asyncio.gather(background, return_exceptions=True)
            await chain.close()
            process.send_signal(signal.SIGCONT)


async def _warm(chain: RegistryChain, questions: list[ApprovalQuestion]) -> None:
    for one in questions:
        answer = await chain.lookup(one)
        assert isinstance(answer, Approval), answer


async def _outage(name: str, chain: RegistryChain, questions: list[ApprovalQuestion], seconds: float) -> None:
    """Paced lookups of known versions from the first moment of an outage on, and then of unknown ones."""
    for kind, model in (("known", ""), ("unknown", "other-")):
        asked = [ApprovalQuestion(one.environment, model + one.model, one.version) for one in questions]
        took = sorted(await _paced(chain, asked, seconds, Unavailable if model else Approval))
        shares = [took[min(len(took) - 1, int(len(took) * share))] * 1e3 for share in (0.5, 0.99, 1.0)]
        print(f"| {name}: {kind} versions | {' | '.join(f'{one:,.3g}' for one in shares)} |")


async def _paced(
    chain: RegistryChain, questions: list[ApprovalQuestion], seconds: float, expected: type[Approval | Unavailable]
) -> list[float]:
    took: list[float] = []
    waiting: set[asyncio.Task[None]] = set()

    async def one(question: ApprovalQuestion, due: float) -> None:
        answer = await chain.lookup(question)
        took.append(time.perf_counter() - due)
        assert isinstance(answer, expected), answer

    start = time.perf_counter()
    for number in range(int(seconds * _RATE)):
        due = start + number / _RATE
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        task = asyncio.create_task(one(questions[number % len(questions)], due))
        waiting.add(task)
        task.add_done_callback(waiting.discard)
    await asyncio.gather(*waiting)
    return took


async def _first(chain: RegistryChain, questions: list[ApprovalQuestion]) -> float:
    await chain.lookup(questions[0])  # connects
    start = time.perf_counter()
    for one in questions[1:]:
        await chain.lookup(one)
    took = (time.perf_counter() - start) / (len(questions) - 1) * 1e3
    await chain.close()
    return took


async def _from_memory(chain: RegistryChain, questions: list[ApprovalQuestion], lookups: int) -> float:
    start = time.perf_counter()
    for number in range(lookups):
        await chain.lookup(questions[number % _MODELS])
    return (time.perf_counter() - start) / lookups * 1e6


def _chain(url: str, fresh: float, revalidate: float = 0) -> RegistryChain:
    cache = {"freshSeconds": fresh, "revalidateSeconds": revalidate}
    one = {"name": "bench", "type": "https", "url": url, "cache": cache}
    return open_registries(RegistriesSettings.model_validate({"registries": [one]}), World())


def _row(name: str, values: list[float]) -> None:
    print(f"| {name} | {statistics.median(values):.3g} | {min(values):.3g} | {max(values):.3g} |")


@contextmanager
def _web_server(folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "--directory", str(folder), str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            with socket.socket() as trial:
                if trial.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}", process
    finally:
        process.kill()
        process.wait(10)


if __name__ == "__main__":
    main()
