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
        ("jetstream", "us-docker.pkg.dev/cloud-tpu-images/inference/jetstream-pytorch:v1"),
    ],
)
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
    "image", ["nginx", "acme/web:1", "library/ray", "tritonclient", "Not An Image", "", "acme/server:tritonserver"]
)
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
