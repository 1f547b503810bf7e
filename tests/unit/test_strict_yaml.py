from __future__ import annotations

import pytest
from pydantic import BaseModel, ConfigDict, Field

from admission.strict_yaml import DocumentError, parse_document


class Server(BaseModel):
    model_config = ConfigDict(extra="forbid")
    port: int = Field(default=1, ge=1)
    mode: str = ""


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid")
    server: Server = Server()
    pools: dict[str, Server] = {}
    servers: list[Server] = []
    optional: Server | None = None


def problems(text: str) -> list[str]:
    with pytest.raises(DocumentError) as refusal:
        parse_document(text, Settings, "settings.yaml")
    assert str(refusal.value) == "\n".join(refusal.value.problems)
    return refusal.value.problems


@pytest.mark.parametrize("text", ["", "# only a comment\n", "{}", "server: {}"])
def test_an_empty_document_is_the_defaults(text: str) -> None:
    assert parse_document(text, Settings, "settings.yaml") == Settings()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("servr: {}", "settings.yaml:1: servr: unknown key; allowed are optional, pools, server, servers; did you mean 'server'?"),
        ("server:\n  port: 2\n  prot: 3\n", "settings.yaml:3: server.prot: unknown key; allowed are mode, port; did you mean 'port'?"),
        ("pools:\n  a: {}\n  b:\n    modee: x\n", "settings.yaml:4: pools.b.modee: unknown key; allowed are mode, port; did you mean 'mode'?"),
        ("servers:\n  - {}\n  - zzz: 1\n", "settings.yaml:3: servers[1].zzz: unknown key; allowed are mode, port"),
        ("optional:\n  prt: 1", "settings.yaml:2: optional.prt: unknown key; allowed are mode, port; did you mean 'port'?"),
        ("server:\n  port: many", "settings.yaml:2: server.port: input should be a valid integer"),
        ("server:\n  port: many", "found 'many'"),
        ("\nserver:\n  port: 0", "settings.yaml:3: server.port: input should be greater than or equal to 1, found '0'"),
        ("server: 5", "settings.yaml:1: server: "),
        ("- a", "settings.yaml:1: this is no mapping"),
        ("just text", "settings.yaml:1: this is no mapping"),
        ("server:\n  port: 1\n  port: 2\n", "settings.yaml:3: key 'port' was given already on line 2; give it once"),
        ("pools:\n  a: {mode: x, mode: y}", "settings.yaml:2: key 'mode' was given already on line 2; give it once"),
        ("servers:\n- {port: 1}\n- port: 1\n  port: 2", "settings.yaml:4: key 'port' was given already on line 3"),
        ("server: {", "settings.yaml:2: this is not YAML: "),
        ("a: b\n c: d", "settings.yaml:2: this is not YAML: "),
        ("a: 1\n---\nb: 2", "settings.yaml:2: this is not YAML: "),
        ("server: !!python/object:os.system {}", "settings.yaml:1: this is not YAML: "),
        ("server: \x00", "settings.yaml"),
    ],
)  # fmt: skip
def test_a_problem_names_file_line_and_key(text: str, expected: str) -> None:
    assert expected in problems(text)[0]


def test_all_problems_come_at_once() -> None:
    found = problems("server:\n  port: no\n  mood: x\npools:\n  a:\n    port: -1\nmore: 1\n")
    assert [one.split(": ")[1] for one in found] == ["server.port", "server.mood", "pools.a.port", "more"]


def test_only_true_and_false_are_booleans() -> None:
    assert parse_document("server: {mode: off}", Settings, "settings.yaml").server.mode == "off"


@pytest.mark.parametrize("text", ["servers: &a [*a]", "server: &a {mode: *a}", "pools: &a {b: *a}"])
def test_a_document_that_contains_itself_is_refused(text: str) -> None:
    assert problems(text)


def test_many_aliases_are_looked_at_once() -> None:
    lines = ["a0: &a0 {port: 1}"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    assert problems("\n".join(lines))[0].startswith("settings.yaml:1: a0: unknown key")
