"""Where the preloader gets the files that variables name: never over what runs or lies in it."""

from __future__ import annotations

import pytest

from admission.pod import ModelPod
from admission.preload_access import MOVED_TO, access_of

_VARIABLE = "REGISTRY_AUTH_FILE"
_MOVED = f"{MOVED_TO}/registry-auth-file"


@pytest.mark.parametrize(
    ("mounted", "place"),
    [
        ("/run/secrets/registry", "/run/secrets/registry"),
        ("/var/run/secrets/registry", "/var/run/secrets/registry"),
        ("/run/tidewaiter/source/llama", _MOVED),
        ("/run/tidewaiter", _MOVED),
        ("/run", _MOVED),
        ("/var/run/tidewaiter/source/llama", _MOVED),
        ("/var/run/tidewaiter", _MOVED),
        ("/var/run", _MOVED),
        ("/usr/lib/python3", _MOVED),
    ],
)
def test_a_volume_stays_in_its_place_only_where_nothing_of_ours_lies(mounted: str, place: str) -> None:
    spec = {
        "containers": [
            {
                "name": "server",
                "image": "acme/server",
                "env": [{"name": _VARIABLE, "value": f"{mounted}/config.json"}],
                "volumeMounts": [{"name": "mine", "mountPath": mounted}],
            }
        ]
    }
    found = access_of(ModelPod({"spec": spec}, "models").containers, [_VARIABLE], verified=False)

    assert [one["mountPath"] for one in found.mounts] == [place]
    assert [one["value"] for one in found.env] == [f"{place}/config.json"]
