"""The programs of the control plane, built from source when they are missing.

`python -m tests.controlplane.binaries [NAME...]` prints their paths. etcd, kube-apiserver
and kubectl are taken from `$KUBEBUILDER_ASSETS` when it has them, and kubectl from PATH.
"""

import argparse
import functools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.controlplane.build_cache import BuildError, cached, entry_name, run_step
from tests.controlplane.go_toolchain import go_command

MODULE = Path(__file__).parent
ENVTEST_NAMES = ("etcd", "kube-apiserver", "kubectl")
KUBERNETES_COMMANDS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")

KWOK_MODULE = "sigs.k8s.io/kwok"
KWOK_VERSION = "v0.8.0"
KWOK_STAGES = (
    "node/fast/node-initialize.yaml",
    "node/heartbeat-with-lease/node-heartbeat-with-lease.yaml",
    "pod/fast/pod-ready.yaml",
    "pod/fast/pod-complete.yaml",
    "pod/fast/pod-delete.yaml",
)
OPA_VERSION = "v1.22.2"
GATOR_VERSION = "v3.23.1"
HELM_VERSION = "v4.3.1"
DISTRIBUTION_VERSION = "v3.1.0"
PROMTOOL_VERSION = "v0.316.0"
AMTOOL_VERSION = "v0.34.2"


@dataclass(frozen=True)
class Tool:
    """One program: the Go package it is, and whether go.mod pins it.

    kwok, opa, gator, helm, registry, promtool and amtool stay outside go.mod: each with its own dependencies,
    as its authors tested it, instead of those that Kubernetes needs.
    """

    name: str
    version: str
    package: str
    pinned_by_go_mod: bool
    ldflags: tuple[str, ...] = ("-s", "-w")

    @property
    def entry(self) -> str:
        """Its directory in the cache."""
        return entry_name(self.name, self.version)


def locate(name: str) -> Path:
    """The path of one program, built first when it is missing (minutes when cold).

    Raises BuildError with one sentence when it cannot be had.
    """
    if provided := _provided(name):
        return provided
    tool = tools()[name]
    return cached(tool.entry, lambda staging: _build(tool, staging)) / name


def kwok_stages() -> tuple[Path, ...]:
    """The KWOK stages that make nodes ready and pods run, complete and go, at once."""
    directory = locate("kwok").parent / "stages"
    return tuple(directory / Path(stage).name for stage in KWOK_STAGES)


@functools.cache
def tools() -> dict[str, Tool]:
    """All programs by name, in the order in which they are built."""
    etcd = Tool("etcd", _pinned("go.etcd.io/etcd/server/v3"), "go.etcd.io/etcd/server/v3", True)
    kwok = Tool("kwok", KWOK_VERSION, f"{KWOK_MODULE}/cmd/kwok", False)
    opa = Tool("opa", OPA_VERSION, "github.com/open-policy-agent/opa", False)
    gator = Tool("gator", GATOR_VERSION, "github.com/open-policy-agent/gatekeeper/v3/cmd/gator", False)
    helm = Tool("helm", HELM_VERSION, "helm.sh/helm/v4/cmd/helm", False)
    distribution = "github.com/distribution/distribution/v3/cmd/registry"
    registry = Tool("registry", DISTRIBUTION_VERSION, distribution, False)
    promtool = Tool("promtool", PROMTOOL_VERSION, "github.com/prometheus/prometheus/cmd/promtool", False)
    amtool = Tool("amtool", AMTOOL_VERSION, "github.com/prometheus/alertmanager/cmd/amtool", False)
    kubernetes = [_kubernetes_tool(name) for name in KUBERNETES_COMMANDS]
    return {tool.name: tool for tool in (etcd, *kubernetes, kwok, opa, gator, helm, registry, promtool, amtool)}


def _kubernetes_tool(name: str) -> Tool:
    version = _pinned("k8s.io/kubernetes")
    major, minor, _ = version.removeprefix("v").split(".", 2)
    # Without these the server calls itself v0.0.0-master, which Helm's kubeVersion
    # checks refuse.
    variables = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
    stamps = [f"-X k8s.io/component-base/version.{key}={variables[key]}" for key in variables]
    return Tool(name, version, f"k8s.io/kubernetes/cmd/{name}", True, ("-s", "-w", *stamps))


def _go_mod_version(pattern: str) -> str:
    found = re.search(pattern, (MODULE / "go.mod").read_text(), re.MULTILINE)
    assert found, f"go.mod has no line like {pattern}"
    return found[1]


def _pinned(module: str) -> str:
    return _go_mod_version(rf"^\s*{re.escape(module)} (v\S+)")


def _provided(name: str) -> Path | None:
    """What the machine already has, where any version will do."""
    if name in ENVTEST_NAMES and (assets := os.environ.get("KUBEBUILDER_ASSETS")):
        candidate = Path(assets) / name
        if os.access(candidate, os.X_OK):
            return candidate
    if name == "kubectl" and (on_path := shutil.which(name)):
        return Path(on_path)
    return None


def _build(tool: Tool, staging: Path) -> None:
    go = go_command(_go_mod_version(r"^go (\S+)"))
    common = ["-trimpath", "-buildvcs=false", "-ldflags", " ".join(tool.ldflags)]
    environment = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off"}
    if tool.pinned_by_go_mod:
        command = [str(go), "build", *common, "-o", str(staging / tool.name), tool.package]
    else:
        environment["GOBIN"] = str(staging)
        command = [str(go), "install", *common, f"{tool.package}@{tool.version}"]
    label = f"building {tool.name} {tool.version}"
    run_step(label, tool.entry, command, cwd=MODULE, env=environment)
    if tool.name == "kwok":
        _copy_kwok_stages(go, staging / "stages")


def _copy_kwok_stages(go: Path, destination: Path) -> None:
    """Keep the stages beside the binary: they come from the very same module version."""
    asked = subprocess.run(
        [str(go), "mod", "download", "-json", f"{KWOK_MODULE}@{KWOK_VERSION}"],
        cwd=MODULE,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if asked.returncode != 0:
        raise BuildError(f"cannot download {KWOK_MODULE}@{KWOK_VERSION}: {asked.stderr.strip()}")
    source = Path(json.loads(asked.stdout)["Dir"]) / "kustomize" / "stage"
    destination.mkdir()
    for stage in KWOK_STAGES:
        # The module cache is read-only, so only the content is copied.
        shutil.copyfile(source / stage, destination / Path(stage).name)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the path of each named program, all of them without names."""
    parser = argparse.ArgumentParser(prog="python -m tests.controlplane.binaries")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(tools()))
    names = parser.parse_args(arguments).names or list(tools())
    if unknown := [name for name in names if name not in tools()]:
        parser.error(f"unknown {', '.join(unknown)}; choose from {', '.join(tools())}")
    try:
        for name in names:
            print(locate(name), flush=True)
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
