"""The table of model-serving and training systems, as data.

One row says how a system's pods are told from others (labels, images, container
names) and what its server needs to run without root and on a read-only root.
Recognition in this process and the CEL ``matchConditions`` of the webhook
configurations both come from it.

Sources: the projects' own charts, controllers and Dockerfiles (facts of KServe
``pkg/constants``, Seldon Core, KubeRay ``ray-operator/controllers/ray/utils``,
NIM operator, LeaderWorkerSet API, Kubeflow Trainer); image users read from the
published images' configuration.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from admission.image_reference import parse_image


@dataclass(frozen=True, slots=True)
class Framework:
    """One system.

    ``labels``: (key, value) pairs of a pod, any of which is enough; an empty value
    means "whatever it is". ``images``: parts of ``registry/repository``. A container
    with such an image is the system's own, and the fields from ``uid`` on hold for it.
    ``containers`` are the names of those that serve the model in a pod of the system's
    labels, whatever their image: a name says who gets the model, and nothing of what an
    image needs.

    ``uid`` is the image's user, or one it is known to run with. ``directories`` are
    written to besides ``/tmp``; ``environment`` moves caches there. ``hub`` says that
    the server downloads from the Hugging Face hub by name. ``home`` is False where
    the image needs its own ``HOME``. ``default_port`` is named where it is below 1024.
    """

    name: str
    labels: tuple[tuple[str, str], ...] = ()
    images: tuple[str, ...] = ()
    containers: tuple[str, ...] = ()
    uid: int | None = None
    read_only_root: bool = False
    home: bool = True
    directories: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    model_path: str = "/mnt/models"
    hub: bool = False
    needs_token: bool = False
    default_port: int = 0


_HUB_CACHES = (
    ("HF_HOME", "/tmp/huggingface"),
    ("XDG_CACHE_HOME", "/tmp/.cache"),
    ("XDG_CONFIG_HOME", "/tmp/.config"),
    ("MPLCONFIGDIR", "/tmp/matplotlib"),
    ("TORCHINDUCTOR_CACHE_DIR", "/tmp/torchinductor"),
    ("TRITON_CACHE_DIR", "/tmp/triton"),
    ("NUMBA_CACHE_DIR", "/tmp/numba"),
)

FRAMEWORKS: tuple[Framework, ...] = (
    Framework(
        name="triton",
        images=("tritonserver",),
        uid=1000,
        read_only_root=True,
        model_path="/models",
    ),
    Framework(
        name="vllm",
        labels=(("app.kubernetes.io/component", "serving-engine"),),
        images=("vllm/vllm-", "vllm-openai"),
        uid=1000,
        read_only_root=True,
        # An unmapped uid breaks getpwuid in torch (vllm #44548): USER answers first.
        environment=(("USER", "vllm"), ("VLLM_CACHE_ROOT", "/tmp/vllm"), *_HUB_CACHES),
        hub=True,
    ),
    Framework(
        name="text-generation-inference",
        images=("text-generation-inference", "text-embeddings-inference"),
        uid=1000,
        read_only_root=True,
        # The image's HUGGINGFACE_HUB_CACHE is /data, which root owns.
        directories=("/data",),
        environment=(("USER", "tgi"), *_HUB_CACHES),
        hub=True,
        default_port=80,
    ),
    Framework(
        name="nim",
        labels=(
            ("app.kubernetes.io/part-of", "nim-service"),
            ("app.kubernetes.io/managed-by", "k8s-nim-operator"),
        ),
        images=("nvcr.io/nim/",),
        uid=1000,
        model_path="/model-store",
    ),
    Framework(
        name="torchserve",
        labels=(("app", "torchserve"),),
        images=("torchserve",),
        uid=1000,
        read_only_root=True,
        environment=(("TEMP", "/tmp"), ("LOG_LOCATION", "/tmp/logs"), ("METRICS_LOCATION", "/tmp/logs")),
        model_path="/home/model-server/model-store",
    ),
    Framework(
        name="bentoml",
        labels=(("yatai.ai/bento-deployment", ""), ("yatai.ai/bento-repository", "")),
        images=("bentoml/",),
        uid=1034,
        read_only_root=True,
        home=False,
        environment=(("BENTOML_HOME", "/tmp/bentoml"),),
    ),
    Framework(
        name="kserve",
        labels=(
            ("serving.kserve.io/inferenceservice", ""),
            ("serving.kserve.io/inferencegraph", ""),
            ("kserve.io/component", "workload"),
            ("llm-d.ai/role", ""),
        ),
        images=(
            "kserve/sklearnserver",
            "kserve/xgbserver",
            "kserve/lgbserver",
            "kserve/pmmlserver",
            "kserve/paddleserver",
            "kserve/huggingfaceserver",
            "kserve/storage-initializer",
            "kserve/agent",
            "kserve/router",
        ),
        # Beside transformer-container, queue-proxy and agent; "main" is that of LLMInferenceService.
        containers=("kserve-container", "worker-container", "main"),
        uid=1000,
        read_only_root=True,
        environment=_HUB_CACHES,
    ),
    # After KServe, whose pmmlserver has the same end.
    Framework(
        name="mlserver",
        images=("seldonio/mlserver", "mlserver"),
        uid=1000,
        read_only_root=True,
        environment=_HUB_CACHES,
    ),
    Framework(
        name="seldon",
        labels=(
            ("seldon-deployment-id", ""),
            ("seldon-app", ""),
            ("seldon.io/model", "true"),
            ("app.kubernetes.io/managed-by", "seldon-core"),
            ("app.kubernetes.io/name", "seldon-server"),
            ("seldon-server-name", ""),
        ),
        images=("seldonio/seldon-rclone", "seldonio/seldon-agent"),
        # Beside rclone and agent, which fetch and register.
        containers=("triton", "mlserver"),
        uid=1000,
    ),
    Framework(
        name="ray",
        labels=(("ray.io/cluster", ""), ("ray.io/node-type", ""), ("ray.io/is-ray-node", "yes")),
        images=("rayproject/ray",),
        uid=1000,
        # Conda, runtime_env and the login shell of older operators need /home/ray.
        home=False,
        # The head's autoscaler sidecar talks to the API server.
        needs_token=True,
    ),
    Framework(
        name="tensorflow-serving", images=("tensorflow/serving",), uid=1000, read_only_root=True, model_path="/models"
    ),
    Framework(name="sglang", images=("lmsysorg/sglang",), uid=1000, environment=_HUB_CACHES, hub=True),
    Framework(name="llama.cpp", images=("ggml-org/llama.cpp", "ggerganov/llama.cpp")),
    Framework(name="ollama", images=("ollama/ollama",)),
    Framework(name="tensorrt-llm", images=("nvidia/tensorrt-llm",)),
    Framework(name="jetstream", images=("inference/jetstream", "pathways/server", "pathways/proxy_server")),
    Framework(name="leaderworkerset", labels=(("leaderworkerset.sigs.k8s.io/name", ""),)),
    Framework(
        name="kubeflow",
        labels=(("trainer.kubeflow.org/trainjob-ancestor-step", ""), ("training.kubeflow.org/job-name", "")),
    ),
)

KSERVE_SOURCE_URI = "internal.serving.kserve.io/storage-initializer-sourceuri"
"""The annotation by which KServe asks for its storage initializer."""

OUR_LABELS: tuple[str, ...] = (
    "tidewaiter.dev/model",
    "tidewaiter.dev/model-version",
    "tidewaiter.dev/workload",
    "tidewaiter.dev/gpu",
    "tidewaiter.dev/mig-profile",
)
"""Labels of ours that make any pod a model pod."""


@lru_cache(maxsize=4096)
def image_framework(image: str) -> Framework | None:
    """The system whose image this is, by registry and repository."""
    reference = parse_image(image)
    if reference is None:
        return None
    name = f"{reference.registry}/{reference.repository}"
    for framework in FRAMEWORKS:
        if any(part in name for part in framework.images):
            return framework
    return None


def label_frameworks(labels: Mapping[str, Any]) -> Iterator[Framework]:
    """The systems whose labels a pod carries, in the table's order."""
    for key, wanted, framework in _LABELS:
        if key in labels and (not wanted or labels[key] == wanted):
            yield framework


_LABELS: tuple[tuple[str, str, Framework], ...] = tuple(
    (key, wanted, framework) for framework in FRAMEWORKS for key, wanted in framework.labels
)
