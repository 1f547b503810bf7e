"""Values as different platform teams would give them."""

from __future__ import annotations

from typing import Any

ELABORATE = {
    "environments": {"production": {"action": "deny"}, "lab": {}},
    "exemptNamespaces": ["kube-system", "storage"],
    "namespaces": {
        "vision": {"environment": "production"},
        "audio": {"environment": "lab"},
        "storage": {"environment": "lab"},
        "other": {"actions": {"image-pinned": "deny"}},
    },
    "workloadKinds": [
        {"group": "acme.io", "kind": "ModelServer", "plural": "modelservers", "versions": ["v1"]},
        {"group": "jobset.x-k8s.io", "kind": "JobSet", "plural": "jobsets"},
    ],
    "server": {"drainSeconds": 12.5},
    "policies": {"configMap": "own-policies"},
}
CA = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
VARIANTS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "elaborate settings": {"settings": ELABORATE},
    "own Secret": {"certificates": {"source": "secret", "secretName": "own", "ca": CA}},
    "cert-manager": {"certificates": {"source": "certManager", "issuerRef": {"name": "internal"}}},
    "everything off": {
        "webhooks": {"enabled": False},
        "labelGuard": {"enabled": False},
        "priorityClasses": {"create": False},
        "podDisruptionBudget": {"enabled": False},
        "networkPolicy": {"enabled": False},
    },
    "everything given": {
        "imagePullSecrets": [{"name": "regcred"}],
        "settingsFiles": {"registry.yaml": "models: []\n"},
        "settingsSecrets": ["registry-token"],
        "priorityClassName": "platform",
        "nodeSelector": {"pool": "system"},
        "tolerations": [{"key": "system", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "podLabels": {"tier": "platform"},
        "podAnnotations": {"note": "x"},
        "env": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
        "extraVolumes": [{"name": "policies", "emptyDir": {}}],
        "extraVolumeMounts": [{"name": "policies", "mountPath": "/policies", "readOnly": True}],
        "serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/x"}},
        "networkPolicy": {
            "webhookFrom": [{"ipBlock": {"cidr": "10.0.0.0/28"}}],
            "metricsFrom": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}],
        },
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
        "dashboard": {"enabled": True},
    },
}
