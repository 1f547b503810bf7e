"""How far references are followed: as far as the kubelet and a shell would, within a bound."""

from __future__ import annotations

from typing import Any

import pytest

from admission.command_line import commands, is_unresolved, variables
from admission.model_reference import model_reference
from admission.pod import ModelPod

MOST = 64 * 1024


def pod(*containers: dict[str, Any]) -> ModelPod:
    """A pod of these containers."""
    return ModelPod({"metadata": {}, "spec": {"containers": [{"name": "c", **one} for one in containers]}})


def doubling(times: int) -> list[dict[str, str]]:
    """Variables, each of which names the one before twice."""
    first = {"name": "E0", "value": "a" * 100}
    return [first, *({"name": f"E{n}", "value": f"$(E{n - 1})$(E{n - 1})"} for n in range(1, times))]


BOMBS: dict[str, dict[str, Any]] = {
    "variables that double": {"args": ["--model", "$(E29)"], "env": doubling(30)},
    "an argument that names one often": {"args": ["--model", "$(E5)" * 10_000], "env": doubling(6)},
    "arguments that name one each": {"args": ["$(E5)"] * 10_000, "env": doubling(6)},
    "a line that names one often": {"command": ["sh", "-c", "vllm serve " + "$E5" * 10_000], "env": doubling(6)},
    "lines within lines": {
        "command": ["sh", "-c", "sh -c '" + "$E5 " * 3_000 + "'" + "$E5" * 3_000],
        "env": doubling(6),
    },
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_what_references_bring_in_is_bounded(bomb: dict[str, Any]) -> None:
    [container] = pod(bomb).containers
    written = len(str(bomb))

    assert sum(len(value or "") for value in variables(container).values()) <= written + MOST
    # A line is read at most four times, once in each shell.
    assert sum(len(word.text) for command in commands(container) for word in command) <= 4 * written + MOST


def test_the_bound_holds_for_the_containers_of_a_pod_together() -> None:
    bomb = {"args": ["--model", "$(E29)"], "env": doubling(30)}
    brought = sum(
        len(value or "") for container in pod(*[bomb] * 32).containers for value in variables(container).values()
    )

    assert brought <= 32 * len(str(bomb)) + MOST


def test_a_reference_beyond_the_bound_leaves_nobody_able_to_tell_what_is_loaded() -> None:
    [load] = model_reference(pod({"image": "vllm/vllm-openai:v1", **BOMBS["variables that double"]})).loads

    assert load.unknown
    assert len(load.unknown) < 1_000


def test_references_within_the_bound_are_followed_to_their_end() -> None:
    environment = [{"name": "A", "value": "org"}, {"name": "B", "value": "$(A)/model"}]
    [load] = model_reference(pod({"image": "vllm/vllm-openai:v1", "args": ["--model=$(B)"], "env": environment})).loads

    assert (load.source, load.unknown) == ("org/model", "")


def test_a_line_that_no_kernel_takes_is_not_read() -> None:
    [container] = pod({"command": ["sh", "-c", "x" * 200_000]}).containers
    [[word]] = commands(container)

    assert is_unresolved(word.text)


@pytest.mark.parametrize(
    ("line", "read"),
    [
        ("serve $M", "org/model"),
        ("M=other; serve $M", "$M"),
        ("for M in a b; do serve $M; done", "$M"),
        ("read M; serve $M", "$M"),
        ("XM=other; serve $M", "org/model"),
        ("export N=1 M=other && serve $M", "$M"),
    ],
)
def test_a_shell_line_keeps_the_variables_that_it_sets_itself(line: str, read: str) -> None:
    [container] = pod({"command": ["sh", "-c", line], "env": [{"name": "M", "value": "org/model"}]}).containers

    assert [command[-1].text for command in commands(container) if "serve" in [word.text for word in command]] == [read]
