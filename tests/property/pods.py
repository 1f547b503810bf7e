"""Hypothesis strategies for pods: plausible ones, odd ones, and ones broken at random."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st

from admission.frameworks import FRAMEWORKS
from tests.kernel import DIGEST

Strategy = st.SearchStrategy[Any]

KNOWN_IMAGES = [
    "nvcr.io/nvidia/tritonserver",
    "vllm/vllm-openai",
    "ghcr.io/huggingface/text-generation-inference",
    "nvcr.io/nim/meta/llama3-8b-instruct",
    "pytorch/torchserve",
    "bentoml/fraud",
    "seldonio/mlserver",
    "kserve/sklearnserver",
    "seldonio/seldon-agent",
    "rayproject/ray",
    "tensorflow/serving",
    "lmsysorg/sglang",
]
IMAGES = [f"{image}@{DIGEST}" for image in KNOWN_IMAGES] + ["acme/web:1", "istio/proxyv2:1", "Not An Image", ""]
FRAMEWORK_LABELS = [(key, value or "x") for one in FRAMEWORKS for key, value in one.labels]
NODE_LABELS = {
    "pool": ["inference", "training", "web"],
    "tier": ["serving", "batch"],
    "zone": ["a", "b"],
    "nvidia.com/gpu.product": ["NVIDIA-A100-SXM4-80GB", "Tesla-T4"],
    "nvidia.com/gpu.count": ["1", "2"],
}
HARDWARE_LABELS = [
    ("tidewaiter.dev/gpu", "A100"),
    ("tidewaiter.dev/gpu", "16Gi"),
    ("tidewaiter.dev/gpu", "H100"),
    ("tidewaiter.dev/mig-profile", "1g.10gb"),
]
SOURCE = "s3://models/m/1"
ACCELERATORS = ["nvidia.com/gpu", "nvidia.com/gpu.shared", "nvidia.com/mig-1g.10gb.me", "amd.com/gpu"]


@st.composite
def fields(draw: st.DrawFn, /, most: int = 3, **optional: Strategy) -> dict[str, Any]:
    """An object with up to ``most`` of the fields, now and then null, and one that nobody knows."""
    names = draw(st.lists(st.sampled_from([*optional, "unknownField"]), unique=True, max_size=most))
    strategies = {**optional, "unknownField": st.just({"x": [1]})}
    return {name: None if draw(st.integers(0, 9)) == 9 else draw(strategies[name]) for name in names}


def sampled(*values: Any) -> Strategy:
    return st.sampled_from(values)


def several(entries: Strategy, most: int = 2) -> Strategy:
    return st.lists(entries, max_size=most)


CAPABILITIES = fields(drop=several(sampled("ALL", "KILL")), add=several(sampled("SYS_ADMIN", "NET_BIND_SERVICE")))
PROFILE = fields(type=sampled("RuntimeDefault", "Unconfined", "Localhost"))
CONTAINER_CONTEXT = fields(
    runAsUser=sampled(0, 7, 1000),
    runAsNonRoot=st.booleans(),
    privileged=st.booleans(),
    allowPrivilegeEscalation=st.booleans(),
    readOnlyRootFilesystem=st.booleans(),
    procMount=sampled("Default", "Unmasked"),
    capabilities=CAPABILITIES,
    seccompProfile=PROFILE,
    seLinuxOptions=fields(type=sampled("spc_t")),
)
POD_CONTEXT = fields(
    runAsUser=sampled(0, 7),
    runAsNonRoot=st.booleans(),
    fsGroup=sampled(5),
    fsGroupChangePolicy=sampled("Always"),
    seccompProfile=PROFILE,
    sysctls=several(fields(name=sampled("net.ipv4.ip_unprivileged_port_start", "kernel.msgmax"), value=sampled("0"))),
)
RESOURCES = sampled("nvidia.com/gpu", "amd.com/gpu").map(lambda name: {"limits": {name: 1}}) | fields(
    limits=st.dictionaries(sampled("cpu", "memory", *ACCELERATORS), sampled(0, 1, "2", "0.5", "1Gi", "x"), max_size=3),
    requests=st.dictionaries(sampled("cpu", "memory", *ACCELERATORS), sampled(1, "1", "500m"), max_size=2),
    claims=several(fields(name=sampled("gpu"))),
)
ENV = several(
    fields(
        name=sampled(
            "HOME", "HF_HOME", "HF_TOKEN", "HF_ENDPOINT", "SSL_CERT_FILE", "MODEL_ID", "NVIDIA_VISIBLE_DEVICES", "PORT"
        ),
        value=sampled("/x", "/data/ca.pem", "/tmp/ca.pem", "all", SOURCE, "org/m"),
        valueFrom=fields(secretKeyRef=fields(name=sampled("s"))),
    )
)
ARGUMENTS = several(
    sampled("serve", "--model", f"--model={SOURCE}", SOURCE, "--model-repository=/repo", "org/m", "vllm serve 'x", "$(HOME)"), 4
)  # fmt: skip
MOUNTS = several(
    fields(name=sampled("data", "tidewaiter-tmp"), mountPath=sampled("/tmp", "/root/.cache", "/mnt/models", "/data/"))
)
VOLUMES = st.lists(
    fields(
        name=sampled("data", "host", "tidewaiter-model", "tidewaiter-source", "tidewaiter-tmp"),
        emptyDir=st.just({}),
        hostPath=fields(path=sampled("/", "/etc")),
        persistentVolumeClaim=fields(claimName=sampled("c"), readOnly=st.booleans()),
        ephemeral=st.just({}),
    ),
    max_size=2,
)


def containers(prefix: str, least: int, most: int) -> Strategy:
    """Named containers: ``main-0``, ``main-1``, ..."""
    container = fields(
        5,
        command=ARGUMENTS,
        args=ARGUMENTS,
        env=ENV,
        ports=several(fields(containerPort=sampled(80, 8080), hostPort=sampled(0, 81))),
        volumeMounts=MOUNTS,
        resources=RESOURCES,
        securityContext=CONTAINER_CONTEXT,
        restartPolicy=sampled("Always"),
        livenessProbe=fields(httpGet=fields(host=sampled("", "evil"))),
        lifecycle=fields(preStop=fields(httpGet=fields(host=sampled("evil")))),
    )
    names = sampled(prefix, "triton", "storage-initializer")
    return st.lists(st.tuples(names, st.sampled_from(IMAGES), container), min_size=least, max_size=most).map(
        lambda drawn: [
            {"name": f"{name}-{index}" if index else name, "image": image, **one}
            for index, (name, image, one) in enumerate(drawn)
        ]
    )


REQUIREMENT = st.sampled_from(sorted(NODE_LABELS)).flatmap(
    lambda key: st.fixed_dictionaries(
        {
            "key": st.just(key),
            "operator": sampled("In", "In", "In", "NotIn", "Exists", "DoesNotExist"),
            "values": several(st.sampled_from(NODE_LABELS[key])),
        }
    )
)
TERM = st.lists(REQUIREMENT, max_size=3).map(lambda found: {"matchExpressions": found}) | fields(
    matchExpressions=several(REQUIREMENT), matchFields=several(REQUIREMENT, 1)
)
AFFINITY = st.lists(TERM, min_size=1, max_size=3).map(
    lambda terms: {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}
) | fields(
    nodeAffinity=fields(
        requiredDuringSchedulingIgnoredDuringExecution=fields(nodeSelectorTerms=several(TERM)),
        preferredDuringSchedulingIgnoredDuringExecution=several(fields(weight=sampled(1))),
    ),
    podAffinity=fields(),
)
TOLERATION = fields(
    key=sampled("nvidia.com/gpu", "spot", ""),
    operator=sampled("Exists", "Equal"),
    value=sampled("present", "true", ""),
    effect=sampled("NoSchedule", "NoExecute", ""),
)
LABELS = st.lists(
    st.sampled_from(
        [
            ("tidewaiter.dev/model", "m"),
            ("tidewaiter.dev/model-version", "1"),
            ("tidewaiter.dev/workload", "training"),
            ("tidewaiter.dev/workload", "none"),
            ("team", "mine"),
            ("model", ""),
            ("env", "test"),
            *HARDWARE_LABELS,
            *FRAMEWORK_LABELS,
        ]
    ),
    max_size=4,
).map(dict)
ANNOTATIONS = st.dictionaries(
    sampled("tidewaiter.dev/model-uri", "tidewaiter.dev/team", "internal.serving.kserve.io/storage-initializer-sourceuri"),
    sampled(SOURCE, "hf://org/m", "pvc://c/m", "a team that no label can hold"),
    max_size=2,
)  # fmt: skip
OWNERS = several(fields(kind=sampled("Job", "ReplicaSet", "DaemonSet"), controller=st.booleans(), name=sampled("o")))

SPEC = st.tuples(
    containers("main", 1, 3),
    fields(
        5,
        initContainers=containers("init", 0, 2),
        ephemeralContainers=containers("debug", 0, 1),
        volumes=VOLUMES,
        tolerations=several(TOLERATION, 3),
        affinity=AFFINITY,
        nodeSelector=st.dictionaries(sampled("pool", "zone"), sampled("inference", "web", "a"), max_size=1),
        nodeName=sampled("n1", ""),
        priorityClassName=sampled("mine", "global", "system-node-critical", "tidewaiter-training", ""),
        serviceAccountName=sampled("default", "trainer"),
        automountServiceAccountToken=st.booleans(),
        resourceClaims=several(fields(name=sampled("gpu"), resourceClaimTemplateName=sampled("gpu", "nic", "unknown"))),
        securityContext=POD_CONTEXT,
        hostNetwork=st.booleans(),
        os=fields(name=sampled("linux", "windows")),
    ),
).map(lambda parts: {**parts[1], "containers": parts[0]})
METADATA = fields(labels=LABELS, annotations=ANNOTATIONS, ownerReferences=OWNERS, generateName=sampled("p-"))
PODS = st.tuples(METADATA, SPEC).map(lambda parts: {"metadata": parts[0], "spec": parts[1]})

GPU_PODS = st.fixed_dictionaries(
    {
        "metadata": st.lists(st.sampled_from(HARDWARE_LABELS), max_size=1).map(lambda found: {"labels": dict(found)}),
        "spec": st.fixed_dictionaries(
            {
                "containers": sampled(1, 1, 2, 4).map(
                    lambda count: [{"name": "main", "resources": {"limits": {"nvidia.com/gpu": count}}}]
                )
            },
            optional={
                "affinity": AFFINITY,
                "tolerations": several(TOLERATION, 3),
                "nodeSelector": st.just({"zone": "a"}),
            },
        ),
    }
)
"""Pods whose placement is all that matters."""

JSON = st.none() | st.booleans() | st.integers(-1, 2) | sampled("", "x", [], {}, [None], [[]], [{}], {"name": "x"}, 0.5)


@st.composite
def broken_pods(draw: st.DrawFn) -> Any:
    """A pod with one to three values replaced by something else."""
    pod = copy.deepcopy(draw(PODS))
    for _ in range(draw(st.integers(1, 3))):
        parent: Any = pod
        key: Any = draw(sampled("metadata", "spec", "spec"))
        while isinstance(parent[key], dict | list) and parent[key] and draw(sampled(True, True, True, False)):
            parent = parent[key]
            key = draw(st.sampled_from(sorted(parent) if isinstance(parent, dict) else range(len(parent))))
        parent[key] = copy.deepcopy(draw(JSON))
    return pod


def _clean(index: int, image: str, gpu: int, extra: dict[str, Any]) -> dict[str, Any]:
    limits = {"memory": "4Gi", **({"nvidia.com/gpu": gpu} if gpu else {})}
    return {"name": f"c{index}", "image": image, "resources": {"limits": limits}, **extra}


CLEAN_CONTAINERS = st.lists(
    st.tuples(
        st.sampled_from([image for image in IMAGES if image.endswith(DIGEST)]),
        st.integers(0, 2),
        st.fixed_dictionaries(
            {}, optional={"ports": st.just([{"containerPort": 80}]), "args": ARGUMENTS, "env": st.just([{"name": "A"}])}
        ),
    ),
    min_size=1,
    max_size=3,
).map(lambda drawn: [_clean(index, *one) for index, one in enumerate(drawn)])

CLEAN_PODS = st.fixed_dictionaries(
    {
        "metadata": st.fixed_dictionaries({"labels": LABELS}, optional={"annotations": ANNOTATIONS}),
        "spec": st.fixed_dictionaries(
            {"containers": CLEAN_CONTAINERS},
            optional={
                "nodeSelector": st.just({"pool": "inference"}),
                "volumes": sampled(
                    [{"name": "d", "persistentVolumeClaim": {"claimName": "d"}}], [{"name": "d", "emptyDir": {}}]
                ),
                "serviceAccountName": sampled("default", "trainer"),
            },
        ),
    }
)
"""Pods of known systems whose authors said nothing about security."""
