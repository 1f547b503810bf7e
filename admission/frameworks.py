"""The table of model-serving and training systems, as data.

One row says how a system's pods are told from others (labels, images, container
names) and what its server needs to run without root and on a read-only root.
Recognition in this process and the CEL ``matchConditions`` of the webhook
configurations both come from it.

A label belongs here only if it says that a model is served or trained: those of
LeaderWorkerSet say no more than that pods belong together. A system may have a second row
for images whose user nobody could look up (other accelerators, other people's builds):
they are recognised, and what breaks at the kubelet is only previewed for them.

Sources: the projects' own charts, controllers and Dockerfiles (KServe ``pkg/constants`` and
``python/*.Dockerfile``, which end in ``USER 1000``; Seldon Core; KubeRay
``ray-operator/controllers/ray/utils``; NIM operator; Kubeflow Trainer; OpenVINO's
``Dockerfile.ubuntu``, user ovms, 5000). The images of vLLM, TGI, SGLang and TensorFlow
Serving have root as their user: 1000 is one that they run with, given the variables of
their row. llama.cpp, Ollama, LMDeploy, Infinity and DJL Serving have root too, and no
source says that they run without.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
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

_VLLM = Framework(
    name="vllm",
    labels=(("app.kubernetes.io/component", "serving-engine"),),
    images=("vllm-openai",),
    uid=1000,
    read_only_root=True,
    # An unmapped uid breaks getpwuid in torch (vllm #44548): USER answers first.
    environment=(("USER", "vllm"), ("VLLM_CACHE_ROOT", "/tmp/vllm"), *_HUB_CACHES),
    hub=True,
)
_TGI = Framework(
    name="text-generation-inference",
    images=("text-generation-inference", "text-embeddings-inference"),
    uid=1000,
    read_only_root=True,
    # The image's HUGGINGFACE_HUB_CACHE is /data, which root owns.
    directories=("/data",),
    environment=(("USER", "tgi"), *_HUB_CACHES),
    hub=True,
    default_port=80,
)
_KSERVE = Framework(
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
)
_TENSORFLOW_SERVING = Framework(
    name="tensorflow-serving", images=("tensorflow/serving",), uid=1000, read_only_root=True, model_path="/models"
)


def _of_unknown_user(framework: Framework, *images: str) -> Framework:
    return replace(framework, images=images, labels=(), containers=(), uid=None, read_only_root=False)


FRAMEWORKS: tuple[Framework, ...] = (
    Framework(
        name="triton",
        images=("tritonserver",),
        uid=1000,
        read_only_root=True,
        model_path="/models",
    ),
    # Other accelerators' device files belong to root or to a group that no image knows.
    _of_unknown_user(_VLLM, "vllm-openai-rocm", "rocm/vllm", "vllm-tpu", "vllm-gaudi", "vllm-cpu"),
    _VLLM,
    _of_unknown_user(_VLLM, "vllm/vllm-", "nvidia/vllm"),
    _TGI,
    # AWS' own image, and those for Gaudi and Neuron.
    _of_unknown_user(_TGI, "huggingface-pytorch-tgi-inference", "huggingface/tgi-gaudi", "neuronx-tgi"),
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
    # KServe before it had that name; before TorchServe and MLServer, whose names are parts of these.
    _of_unknown_user(
        _KSERVE,
        "kfserving/storage-initializer",
        "kfserving/sklearnserver",
        "kfserving/xgbserver",
        "kfserving/lgbserver",
        "kfserving/pmmlserver",
        "kfserving/pytorchserver",
        "kfserving/alibi-explainer",
        "kfserving/aix-explainer",
        "kfserving/image-transformer",
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
    _KSERVE,
    # Their images run as 1000 too; what they write besides /tmp is the model author's.
    replace(
        _KSERVE,
        images=(
            "kserve/image-transformer",
            "kserve/custom-model",
            "kserve/alibi-explainer",
            "kserve/aix-explainer",
            "kserve/art-explainer",
        ),
        labels=(),
        containers=(),
        read_only_root=False,
    ),
    # Other people's builds of KServe's servers.
    _of_unknown_user(
        _KSERVE,
        "kserve/mnist-transformer",
        "kserve-sklearnserver",
        "kserve-xgbserver",
        "kserve-lgbserver",
        "kserve-pmmlserver",
        "kserve-paddleserver",
        "kserve-predictiveserver",
        "huggingfaceserver",
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
    _TENSORFLOW_SERVING,
    _of_unknown_user(_TENSORFLOW_SERVING, "tensorflow-serving"),
    Framework(name="sglang", images=("lmsysorg/sglang",), uid=1000, environment=_HUB_CACHES, hub=True),
    Framework(name="llama.cpp", images=("ggml-org/llama.cpp", "ggerganov/llama.cpp", "abetlen/llama-cpp-python")),
    Framework(name="ollama", images=("ollama/ollama",)),
    Framework(name="tensorrt-llm", images=("nvidia/tensorrt-llm",)),
    Framework(name="jetstream", images=("inference/jetstream", "pathways/server", "pathways/proxy_server")),
    # The image's own user has its home and the groups of Intel's GPU files.
    Framework(name="openvino", images=("openvino/model_server",), uid=5000, home=False),
    Framework(
        name="djl-serving",
        images=("deepjavalibrary/djl-serving", "amazonaws.com/djl-inference"),
        model_path="/opt/ml/model",
    ),
    Framework(name="lmdeploy", images=("openmmlab/lmdeploy",), environment=_HUB_CACHES, hub=True),
    Framework(name="infinity", images=("michaelf34/infinity",), environment=_HUB_CACHES, hub=True),
    Framework(name="alibi-detect", images=("seldonio/alibi-detect-server",)),
    Framework(name="nemo", images=("nvcr.io/nvidia/nemo",)),
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
    if _LABEL_KEYS.isdisjoint(labels):
        return
    for key, wanted, framework in _LABELS:
        if key in labels and (not wanted or labels[key] == wanted):
            yield framework


_LABELS: tuple[tuple[str, str, Framework], ...] = tuple(
    (key, wanted, framework) for framework in FRAMEWORKS for key, wanted in framework.labels
)
_LABEL_KEYS = frozenset(key for key, _, _ in _LABELS)
