"""Starts a control plane, GPU nodes that KWOK plays, and Tidewaiter; ends with Ctrl-C.

Nothing is installed and nothing stays: everything lives in a temporary folder.
"""

import contextlib
import shutil
import signal
import sys
import tempfile
import threading
from pathlib import Path
from types import FrameType

from tests.controlplane.build_cache import BuildError
from tests.controlplane.cluster import ControlPlane, ControlPlaneError, KubectlError
from tests.controlplane.tidewaiter import Tidewaiter
from tests.controlplane.waiting import WaitTimeoutError

FILES = Path(__file__).parent
GPU_TAINT, SPOT_TAINT = "nvidia.com/gpu=present:NoSchedule", "cloud.google.com/gke-spot=true:NoSchedule"
NODES = (
    ("gpu-t4", "inference", "Tesla-T4", [GPU_TAINT]),
    ("gpu-a100-spot", "training", "NVIDIA-A100-SXM4-80GB", [GPU_TAINT, SPOT_TAINT]),
)

TO_TRY = """
A Kubernetes {version} API server with Tidewaiter is ready. In another terminal:

  export KUBECONFIG={kubeconfig}
  cd {folder}

A plain Deployment runs on a tainted GPU node, under Pod Security "restricted":
  kubectl apply -n models -f resnet50.yaml
  kubectl get pods -n models -o wide
  kubectl get pods -n models -o yaml        # what was added
Without Tidewaiter (this namespace has no environment) it stays Pending:
  kubectl apply -n elsewhere -f resnet50.yaml
  kubectl describe pods -n elsewhere
A version that nobody approved is refused, until you write "approved" in registry.yaml:
  kubectl apply -n models -f next-version.yaml
In development the same is a warning:
  kubectl apply -n lab -f next-version.yaml
An image that may change after the review is refused:
  kubectl run server -n models --image=nvcr.io/nvidia/tritonserver:25.09-py3
The decisions, and the figures:
  tail -f {log}
  curl -s {metrics}

Ctrl-C ends it all.
"""


def main() -> int:
    """Run until Ctrl-C or SIGTERM; returns the exit status."""
    # SIGINT too: a shell starts background jobs with it ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    with contextlib.ExitStack() as stack:
        try:
            return _run(stack)
        except KeyboardInterrupt:
            print("\nending", flush=True)
            return 0
        except (BuildError, ControlPlaneError, KubectlError, WaitTimeoutError) as error:
            print(f"the demo cannot start: {error}", file=sys.stderr)
            return 1


def _run(stack: contextlib.ExitStack) -> int:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tidewaiter-demo-")))
    for file in FILES.glob("*.yaml"):
        shutil.copy(file, folder)
    (folder / "control-plane").mkdir()
    print("starting etcd, API server, controllers, scheduler and KWOK", flush=True)
    plane = stack.enter_context(ControlPlane(folder / "control-plane"))
    plane.kubectl("apply", "-f", str(folder / "cluster.yaml"))
    for name, pool, product, taints in NODES:
        labels = {"tidewaiter.dev/pool": pool, "nvidia.com/gpu.product": product}
        plane.add_gpu_node(name, labels=labels, taints=taints, capacity={"nvidia.com/gpu": "4"})
    print("starting Tidewaiter", flush=True)
    tidewaiter = stack.enter_context(Tidewaiter(plane, folder, (folder / "settings.yaml").read_text()))
    with plane.client() as client:
        version = client.send("GET", "/version").body["gitVersion"]
    print(
        TO_TRY.format(
            version=version,
            kubeconfig=plane.kubeconfig,
            folder=folder,
            log=tidewaiter.process.log,
            metrics=f"http://127.0.0.1:{tidewaiter.health_port}/metrics",
        ),
        flush=True,
    )
    threading.Event().wait()
    return 0


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        # Asked again it would stop half-way, and leave the folder behind.
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
