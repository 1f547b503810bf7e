"""The reviews that are sent: a model pod of a Deployment, as the API server writes it."""

from __future__ import annotations

import base64
from typing import Any

import jsonpatch
import orjson

from admission.decision import Purpose
from webhook.reviewer import Reviewer


def pod() -> dict[str, Any]:
    """The pod as its ReplicaSet makes it, nothing said about security or placement."""
    probe = {"httpGet": {"path": "/v2/health/ready", "port": 8000, "scheme": "HTTP"}, "periodSeconds": 5}
    return {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {
            "generateName": "resnet-6b7f9c8d5c-",
            "creationTimestamp": None,
            "labels": {
                "app": "resnet",
                "pod-template-hash": "6b7f9c8d5c",
                "tidewaiter.dev/model": "resnet50",
                "tidewaiter.dev/model-version": "3",
            },
            "ownerReferences": [
                {
                    "apiVersion": "apps/v1",
                    "kind": "ReplicaSet",
                    "name": "resnet-6b7f9c8d5c",
                    "uid": "8b1f8a8e-3c53-4f0e-9f0e-0d6c1a0b7f11",
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": {
            "volumes": [
                {"name": "models", "persistentVolumeClaim": {"claimName": "models", "readOnly": True}},
                {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}},
            ],
            "containers": [
                {
                    "name": "triton",
                    "image": f"nvcr.io/nvidia/tritonserver@sha256:{'a' * 64}",
                    "args": ["tritonserver", "--model-repository=/models/resnet50/3", "--strict-readiness=true"],
                    "ports": [
                        {"name": "http", "containerPort": 8000, "protocol": "TCP"},
                        {"name": "grpc", "containerPort": 8001, "protocol": "TCP"},
                    ],
                    "env": [{"name": "LOG_LEVEL", "value": "info"}],
                    "resources": {
                        "limits": {"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": "1"},
                        "requests": {"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": "1"},
                    },
                    "volumeMounts": [
                        {"name": "models", "mountPath": "/models", "readOnly": True},
                        {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108  # inside the container
                    ],
                    "readinessProbe": probe,
                    "terminationMessagePath": "/dev/termination-log",
                    "terminationMessagePolicy": "File",
                    "imagePullPolicy": "IfNotPresent",
                }
            ],
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 30,
            "dnsPolicy": "ClusterFirst",
            "serviceAccountName": "default",
            "securityContext": {},
            "schedulerName": "default-scheduler",
        },
        "status": {},
    }


def review(obj: dict[str, Any]) -> bytes:
    """CREATE of the pod in namespace ``ml-production`` of the sample cluster."""
    kind, resource = {"group": "", "version": "v1", "kind": "Pod"}, {"group": "", "version": "v1", "resource": "pods"}
    return orjson.dumps(
        {
            "kind": "AdmissionReview",
            "apiVersion": "admission.k8s.io/v1",
            "request": {
                "uid": "0df28fbd-5f5f-11e8-bc74-36e6bb280816",
                "kind": kind,
                "resource": resource,
                "requestKind": kind,
                "requestResource": resource,
                "namespace": "ml-production",
                "operation": "CREATE",
                "userInfo": {
                    "username": "system:serviceaccount:kube-system:replicaset-controller",
                    "uid": "2b1c2c5e-7d0c-4b8e-a6a0-6f2f1d9a0b4e",
                    "groups": ["system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"],
                },
                "object": obj,
                "oldObject": None,
                "dryRun": False,
                "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
            },
        }
    )


async def bodies(reviewer: Reviewer) -> dict[str, bytes]:
    """By path: the pod as its author has it, and the pod that ``/mutate`` makes of it. Both must be allowed."""
    before = pod()
    mutated = orjson.loads((await reviewer.answer(review(before), Purpose.MUTATE)).body)["response"]
    after = jsonpatch.apply_patch(before, orjson.loads(base64.b64decode(mutated["patch"])))
    judged = orjson.loads((await reviewer.answer(review(after), Purpose.VALIDATE)).body)["response"]
    assert judged["allowed"], judged
    return {"/mutate": review(before), "/validate": review(after)}
