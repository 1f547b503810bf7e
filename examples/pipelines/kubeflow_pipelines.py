"""A Kubeflow pipeline that passes the gate. Compile it with kfp 2: ``python kubeflow_pipelines.py``.

kfp reads annotations as objects: no ``from __future__ import annotations`` here.
"""

from pathlib import Path

from kfp import compiler, dsl

IMAGE = (
    "registry.example.com/tidewaiter/tidewaiter@sha256:0000000000000000000000000000000000000000000000000000000000000000"
)
GATE = 'tidewaiter gate --model "$1" --version "$2" --env "$3" --gates "$4" --format json --output "$5" "$6"'
DIGEST = 'tidewaiter-runtime digest "$1" > "$2"; cat "$2"'


@dsl.container_component
def gate(
    model: str,
    version: str,
    environment: str,
    gates: dsl.Input[dsl.Artifact],
    evidence: dsl.Input[dsl.Artifact],
    report: dsl.Output[dsl.Artifact],
) -> dsl.ContainerSpec:
    """Hold the evidence to the thresholds; the report has the digests of the evidence."""
    arguments = [model, version, environment, gates.path, report.path, evidence.path]
    return dsl.ContainerSpec(image=IMAGE, command=["sh", "-e", "-c", GATE, "gate"], args=arguments)


@dsl.container_component
def digest(files: dsl.Input[dsl.Model], found: dsl.OutputPath(str)) -> dsl.ContainerSpec:  # type: ignore[valid-type]  # as kfp wants it
    """Print the digest that is to be approved."""
    return dsl.ContainerSpec(image=IMAGE, command=["sh", "-e", "-c", DIGEST, "digest"], args=[files.path, found])


@dsl.pipeline(name="model-release", description="Gate a model version and print its digest.")
def release(
    model: str, version: str, files_uri: str, evidence_uri: str, gates_uri: str, environment: str = "production"
) -> None:
    """Import what earlier pipelines wrote, gate it, and print the digest of what passed."""
    files = dsl.importer(artifact_uri=files_uri, artifact_class=dsl.Model, reimport=True)
    evidence = dsl.importer(artifact_uri=evidence_uri, artifact_class=dsl.Artifact, reimport=True)
    gates = dsl.importer(artifact_uri=gates_uri, artifact_class=dsl.Artifact, reimport=True)
    passed = gate(model=model, version=version, environment=environment, gates=gates.output, evidence=evidence.output)
    passed.set_caching_options(False)  # ages are judged anew, and so is what lies behind a URI
    digest(files=files.output).after(passed).set_caching_options(False)


if __name__ == "__main__":
    compiler.Compiler().compile(release, str(Path(__file__).with_name("kubeflow-pipelines.yaml")))
