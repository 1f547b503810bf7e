"""Manifests from files, folders and standard input."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from webhook.manifests import Manifest, read_manifests

_POD = """\
apiVersion: v1
kind: Pod
metadata:
  name: one
  labels: {tidewaiter.dev/model: m}
spec:
  containers:
    - name: side
      image: a
    - name: server
      image: b
      env:
        - name: TOKEN
          value: x
"""


def _read(text: str) -> tuple[list[Manifest], list[str]]:
    return read_manifests(["-"], io.StringIO(text))


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("", 1),
        ("spec.containers[1].image", 11),
        ("spec.containers[server].image", 11),
        ("spec.containers[1].env[TOKEN]", 13),
        ("metadata.labels[tidewaiter.dev/model]", 5),
        ("spec.containers[1].resources.limits", 10),
        ("spec.containers[7].image", 7),
        ("status.phase", 1),
    ],
)
def test_a_field_has_its_line_and_a_missing_one_that_of_the_field_above(path: str, line: int) -> None:
    (manifest,), problems = _read(_POD)

    assert manifest.line(path) == line
    assert not problems


def test_the_items_of_a_list_are_objects_with_their_own_lines() -> None:
    items = "".join(f"- {line}\n" if not i else f"  {line}\n" for i, line in enumerate(_POD.splitlines()))

    (manifest,), problems = _read(f"apiVersion: v1\nkind: List\nitems:\n{items}")

    assert manifest.name == "one"
    assert manifest.line("spec.containers[0].image") == 12
    assert not problems


def test_documents_are_read_one_by_one_and_empty_ones_passed_over() -> None:
    manifests, problems = _read(f"---\n# nothing\n---\n{_POD}---\n{_POD}")

    assert [one.line() for one in manifests] == [4, 19]
    assert not problems


def test_values_are_read_as_kubectl_reads_them() -> None:
    text = "apiVersion: v1\nkind: Pod\nmetadata: {name: a, annotations: {day: 2026-01-02, time: 12:30, port: 080}}\n"

    (manifest,), _ = _read(text)

    assert manifest.metadata["annotations"]["day"] == "2026-01-02"
    assert manifest.metadata["annotations"]["time"] == "12:30"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: [", "<stdin>:2: this is not YAML"),
        ("replicas: {{ .Values.replicas }}\n", "helm template"),
        ("a: b\n", "<stdin>:1: this is no Kubernetes object: it needs apiVersion and kind"),
        ("apiVersion: v1\nkind: Pod\nkind: Pod\n", "<stdin>:3: key 'kind' was given already on line 2"),
        ("apiVersion: v1\nkind: List\nitems:\n- 1\n", "<stdin>:4: items[0] is no Kubernetes object"),
        ("apiVersion: v1\nkind: Pod\n1: 2\n", "Kubernetes object is JSON"),
        ("apiVersion: v1\nkind: Pod\na: &a [*a]\n", "aliases"),
        ("apiVersion: v1\nkind: Pod\na: .nan\n", ""),
    ],
)
def test_what_is_no_manifest_is_a_sentence(text: str, sentence: str) -> None:
    _, problems = _read(text)

    assert sentence in "".join(problems)


def test_aliases_that_multiply_are_refused_before_they_are_written_out() -> None:
    lines = ["apiVersion: v1", "kind: Pod", "l0: &l0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 12)]

    manifests, problems = _read("\n".join(lines))

    assert not manifests
    assert "more than 1000000 values" in problems[0]


def test_a_folder_is_searched_and_other_yaml_in_it_passed_over(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "pod.yml").write_text(_POD)
    (tmp_path / "values.yaml").write_text("replicas: 2\n")
    (tmp_path / "README.md").write_text("no manifest")

    manifests, problems = read_manifests([str(tmp_path)], io.StringIO())

    assert [Path(one.source).name for one in manifests] == ["pod.yml"]
    assert not problems


def test_a_missing_file_an_empty_folder_and_bytes_that_are_no_text_are_sentences(tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "empty").mkdir()

    _, problems = read_manifests(
        [str(tmp_path / "absent.yaml"), str(tmp_path / "empty"), str(tmp_path / "binary.yaml")], io.StringIO()
    )

    assert [problem.rpartition(": ")[2] for problem in problems] == [
        "No such file or directory",
        "no .yaml, .yml, .json file in this folder",
        "this is not UTF-8 text",
    ]
