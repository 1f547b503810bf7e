from __future__ import annotations

from typing import Any

import pytest

from admission.frameworks import FRAMEWORKS, OUR_LABELS, Framework, image_framework
from admission.pod import ModelPod


def pod(labels: dict[str, str] | None = None, **container: Any) -> ModelPod:
    return ModelPod({"metadata": {"labels": labels or {}}, "spec": {"containers": [{"name": "main", **container}]}})


@pytest.mark.parametrize(
    ("framework", "key", "value"),
    [(one, key, value) for one in FRAMEWORKS for key, value in one.labels],
    ids=lambda value: value.name if isinstance(value, Framework) else str(value),
)
def test_a_system_is_known_by_each_of_its_labels(framework: Framework, key: str, value: str) -> None:
    found = pod({key: value or "anything"})
    assert framework in found.frameworks
    assert found.recognised_by == framework.name
    if value:
        assert not pod({key: f"not-{value}"}).recognised_by


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("triton", "nvcr.io/nvidia/tritonserver:26.05-py3"),
        ("triton", "registry:443/mirror/tritonserver"),
        ("vllm", "vllm/vllm-openai:v0.20"),
        ("vllm", "public.ecr.aws/acme/vllm-openai@sha256:" + "a" * 64),
        ("vllm", "vllm/vllm-tpu"),
        ("text-generation-inference", "ghcr.io/huggingface/text-generation-inference:3"),
        ("text-generation-inference", "ghcr.io/huggingface/text-embeddings-inference:cpu-1.7"),
        ("nim", "nvcr.io/nim/meta/llama3-8b-instruct:1.0"),
        ("torchserve", "pytorch/torchserve:latest"),
        ("bentoml", "bentoml/fraud:1"),
        ("mlserver", "seldonio/mlserver:1.7"),
        ("kserve", "kserve/sklearnserver:v0.15"),
        ("kserve", "kserve/pmmlserver:v0.15"),
        ("kserve", "kserve/huggingfaceserver:v0.15-gpu"),
        ("seldon", "seldonio/seldon-agent:2.9"),
        ("ray", "rayproject/ray:2.50-gpu"),
        ("ray", "rayproject/ray-ml:2.9"),
        ("tensorflow-serving", "tensorflow/serving:2.19-gpu"),
        ("sglang", "lmsysorg/sglang:v0.5"),
        ("vllm", "docker.io/vllm/vllm-openai-rocm:v0.23.0"),
        ("vllm", "rocm/vllm-dev:nightly"),
        ("vllm", "opea/vllm-gaudi:latest"),
        ("vllm", "nvcr.io/nvidia/vllm:26.01-py3"),
        ("text-generation-inference", "763104351884.dkr.ecr.us-east-1.amazonaws.com/huggingface-pytorch-tgi-inference:2.4.0-tgi3.0.1"),
        ("text-generation-inference", "ghcr.io/huggingface/tgi-gaudi:2.3.1"),
        ("kserve", "kserve/image-transformer:latest"),
        ("kserve", "kserve/mnist-transformer:latest"),
        ("kserve", "kserve/alibi-explainer:v0.12.1"),
        ("kserve", "kserve/aix-explainer:v0.10"),
        ("kserve", "kserve/custom-model-grpc:latest"),
        ("kserve", "gcr.io/kfserving/storage-initializer:v0.6.1"),
        ("kserve", "gcr.io/kfserving/pmmlserver:v0.5"),
        ("kserve", "kserve-sklearnserver:replace"),
        ("kserve", "huggingfaceserver:replace"),
        ("tensorflow-serving", "tensorflow-serving:replace"),
        ("tensorflow-serving", "bitnami/tensorflow-serving:2"),
        ("alibi-detect", "seldonio/alibi-detect-server:1.17"),
        ("nemo", "nvcr.io/nvidia/nemo:25.11"),
        ("nemo", "nvcr.io/nvidia/nemo-rl:v0.5.0"),
        ("tensorrt-llm", "nvcr.io/nvidia/tensorrt-llm/release:1.2.0"),
        ("llama.cpp", "ghcr.io/ggml-org/llama.cpp:server-cuda"),
        ("llama.cpp", "ghcr.io/ggerganov/llama.cpp:server"),
        ("llama.cpp", "ghcr.io/abetlen/llama-cpp-python:v0.3"),
        ("ollama", "ollama/ollama:0.20"),
        ("lmdeploy", "openmmlab/lmdeploy:latest-cu12"),
        ("infinity", "michaelf34/infinity:0.0.76"),
        ("djl-serving", "deepjavalibrary/djl-serving:0.36.0-pytorch-gpu"),
        ("djl-serving", "763104351884.dkr.ecr.us-west-2.amazonaws.com/djl-inference:0.32.0-lmi14.0.0-cu126"),
        ("openvino", "openvino/model_server:2026.2-gpu"),
        ("jetstream", "us-docker.pkg.dev/cloud-tpu-images/inference/jetstream-pytorch:v1"),
    ],
)  # fmt: skip
def test_a_system_is_known_by_its_image(name: str, image: str) -> None:
    found = pod(image=image)
    assert [one.name for one in found.frameworks] == [name]
    assert found.containers[0].framework is found.frameworks[0]


def test_every_image_of_the_table_is_one_of_its_own_system() -> None:
    for framework in FRAMEWORKS:
        for part in framework.images:
            image = f"{part}x" if part.endswith(("/", "-")) else part
            found = image_framework(image if "/" in image else f"acme/{image}")
            assert found is framework, part


@pytest.mark.parametrize(
    "image",
    [
        "vllm/vllm-openai-rocm", "vllm/vllm-tpu", "rocm/vllm", "opea/vllm-gaudi", "acme.io/vllm-cpu-release-repo", "vllm/vllm-neuron",
        "ghcr.io/huggingface/tgi-gaudi", "bitnami/tensorflow-serving", "cgr.dev/kserve-sklearnserver", "acme/huggingfaceserver",
        "gcr.io/kfserving/storage-initializer", "ollama/ollama", "openmmlab/lmdeploy", "michaelf34/infinity",
        "deepjavalibrary/djl-serving", "ghcr.io/ggml-org/llama.cpp", "nvcr.io/nvidia/nemo", "seldonio/alibi-detect-server",
    ],
)  # fmt: skip
def test_an_image_whose_user_nobody_could_look_up_gets_none(image: str) -> None:
    found = image_framework(image)
    assert found is not None
    assert found.uid is None
    assert not found.read_only_root


@pytest.mark.parametrize(
    ("image", "uid"),
    [
        ("vllm/vllm-openai", 1000),
        ("tensorflow/serving", 1000),
        ("kserve/huggingfaceserver", 1000),
        ("kserve/alibi-explainer", 1000),
        ("openvino/model_server", 5000),
    ],
)
def test_an_image_whose_user_is_known_gets_it(image: str, uid: int) -> None:
    found = image_framework(image)
    assert found is not None
    assert found.uid == uid


def test_pods_that_only_belong_together_serve_no_model_for_it() -> None:
    assert not pod({"leaderworkerset.sigs.k8s.io/name": "web"}, image="nginx").recognised_by
    assert pod({"leaderworkerset.sigs.k8s.io/name": "llm"}, image="vllm/vllm-openai").recognised_by == "vllm"


@pytest.mark.parametrize(
    "image",
    [
        "nginx", "acme/web:1", "library/ray", "tritonclient", "Not An Image", "", "acme/server:tritonserver",
        "docker.io/library/nginx:1", "bitnami/redis:8", "grafana/grafana:12", "grafana/loki:3", "prom/prometheus:v3",
        "prom/node-exporter", "ghcr.io/ollama-webui/ollama-webui:main", "ghcr.io/open-webui/open-webui:ollama",
        "acme/infinity-scroll", "infiniflow/infinity:v0.6", "natsio/jetstream", "nats:jetstream", "acme/djl-inference-docs",
        "gcr.io/kfserving/kfserving-controller:v0.5.1", "kserve/kserve-controller:v0.15", "kserve/models-web-app:v0.15",
        "kserve/modelmesh-controller", "acme/nemo", "linuxserver/nemo-desktop", "openvino/workbench", "openvino/ubuntu24_dev",
        "acme/tgi", "acme/vllm-docs", "acme/lmdeployment", "ghcr.io/huggingface/chat-ui", "ghcr.io/huggingface/text-generation-ui",
        "mlflow/mlflow", "ghcr.io/ggml-org/llama.vscode", "rocm/dev-ubuntu-24.04", "seldonio/seldon-core-operator:1.18",
    ],
)  # fmt: skip
def test_a_web_pod_is_none(image: str) -> None:
    assert not pod(image=image, resources={"limits": {"cpu": 1}}).recognised_by
    assert not pod({"app": "web", "app.kubernetes.io/component": "frontend"}, image=image).recognised_by


@pytest.mark.parametrize(
    ("resources", "recognised"),
    [
        ({"limits": {"nvidia.com/gpu": 1}}, "nvidia.com/gpu"),
        ({"requests": {"nvidia.com/mig-1g.10gb.me": "1"}}, "nvidia.com/mig-1g.10gb.me"),
        ({"limits": {"deviceclass.resource.kubernetes.io/gpu.nvidia.com": 1}}, "deviceclass.resource.kubernetes.io/gpu.nvidia.com"),
        ({"limits": {"google.com/tpu": 4}}, "google.com/tpu"),
        ({"limits": {"nvidia.com/gpu": 0}}, ""),
        ({"limits": {"nvidia.com/gpu": "0"}, "requests": None}, ""),
        ({"limits": {"nvidia.com/gpumem": 1}}, ""),
        ({"limits": None}, ""),
    ],
)  # fmt: skip
def test_a_pod_is_known_by_the_accelerators_it_asks_for(resources: dict[str, Any], recognised: str) -> None:
    assert pod(resources=resources).recognised_by == recognised


@pytest.mark.parametrize("key", OUR_LABELS)
def test_each_label_of_ours_makes_a_model_pod(key: str) -> None:
    assert pod({key: "x"}, image="nginx").recognised_by == f"label {key}"


def test_a_claim_and_kserves_annotation_make_a_model_pod() -> None:
    assert ModelPod({"spec": {"resourceClaims": [{"name": "gpu"}]}}).recognised_by == "resource claim"
    annotations = {"internal.serving.kserve.io/storage-initializer-sourceuri": "s3://b/m"}
    assert ModelPod({"metadata": {"annotations": annotations}}).recognised_by == "storage-initializer annotation"


@pytest.mark.parametrize(
    ("words", "recognised"),
    [
        (["vllm", "serve", "org/m"], "program vllm"),
        (["sh", "-c", "cd /x && exec /usr/bin/tritonserver --model-repository=/m"], "program triton"),
        (["/tini", "--", "python3", "-m", "sglang.launch_server"], "program sglang"),
        (["stdbuf", "-oL", "vllm", "serve", "org/m"], "program vllm"),
        (["mlflow", "models", "serve", "-m", "models:/m/1"], "program mlflow"),
        (["mlflow", "ui"], ""),
        (["vllm", "bench", "serve", "--base-url=http://x"], ""),
        (["router", "--backend", "vllm"], ""),
        (["sh", "-c", "pkill tritonserver"], ""),
        (["router", "--title", "about vllm"], ""),
    ],
)
@pytest.mark.parametrize("field", ["command", "args"])
def test_a_pod_is_known_by_the_server_that_it_starts_whatever_its_image(
    field: str, words: list[str], recognised: str
) -> None:
    container = {"name": "main", "image": "acme/app", field: words}
    assert ModelPod({"spec": {"containers": [container]}}).recognised_by == recognised


@pytest.mark.parametrize(
    ("spec", "recognised"),
    [
        ({"nodeSelector": {"nvidia.com/gpu.present": "true"}}, True),
        ({"nodeSelector": {"kubernetes.io/os": "linux"}}, False),
        ({"tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}]}, True),
        ({"tolerations": [{"operator": "Exists"}, {"key": "dedicated"}]}, False),
        ({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "cloud.google.com/gke-accelerator", "operator": "Exists"}]}]}}}}, True),
        ({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "nvidia.com/gpu.present", "operator": "DoesNotExist"}]}]}}}}, False),
    ],
)  # fmt: skip
def test_a_pod_is_known_by_wanting_to_stand_on_gpu_nodes_unless_it_is_a_nodes_agent(
    spec: dict[str, Any], *, recognised: bool
) -> None:
    assert ModelPod({"spec": spec}).recognised_by == ("placement on GPU nodes" if recognised else "")
    assert not ModelPod({"spec": spec}, owner_kind="DaemonSet").recognised_by


@pytest.mark.parametrize(
    ("labels", "names", "servers"),
    [
        ({"seldon-server-name": "mlserver"}, ("rclone", "agent", "mlserver"), ["mlserver"]),
        ({"app.kubernetes.io/name": "seldon-server"}, ("rclone", "agent", "triton"), ["triton"]),
        ({"serving.kserve.io/inferenceservice": "x"}, ("transformer-container", "kserve-container"), ["kserve-container"]),
        ({"serving.kserve.io/inferenceservice": "x"}, ("queue-proxy", "worker-container"), ["worker-container"]),
        ({"kserve.io/component": "workload"}, ("proxy", "main"), ["main"]),
        ({"app": "web"}, ("triton", "main"), []),
    ],
)  # fmt: skip
def test_a_system_names_the_container_that_serves_whatever_its_image(
    labels: dict[str, str], names: tuple[str, ...], servers: list[str]
) -> None:
    spec = {"containers": [{"name": name, "image": "acme/own"} for name in names]}
    found = ModelPod({"metadata": {"labels": labels}, "spec": {"initContainers": [{"name": "main"}], **spec}})
    assert [one.name for one in found.containers if one.named_server] == servers
    assert not [one.name for one in found.containers if one.framework]
