"""Who is told of what, by Alertmanager's own reading of the routes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.serving_runtime.observability_files import OBSERVABILITY, alerts, run

FOLDER = OBSERVABILITY / "alertmanager"
CONFIG = FOLDER / "alertmanager.yaml"


def _config() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(CONFIG.read_text())
    return loaded


def test_alertmanager_takes_it() -> None:
    done = run("amtool", "check-config", CONFIG)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", alerts())
def test_what_is_critical_wakes_somebody_and_nothing_else_does(name: str) -> None:
    severity = alerts()[name]["labels"]["severity"]
    done = run(
        "amtool", "config", "routes", "test", f"--config.file={CONFIG}", f"severity={severity}", f"alertname={name}"
    )
    assert done.returncode == 0, done.stderr
    told = "pagerduty,team-channel" if severity == "critical" else "team-channel"
    assert done.stdout.strip() == told


def test_what_is_unknown_reaches_the_channel() -> None:
    done = run("amtool", "config", "routes", "test", f"--config.file={CONFIG}", "alertname=Watchdog")
    assert done.stdout.strip() == "team-channel"


def test_secrets_stand_in_files_only() -> None:
    text = CONFIG.read_text()
    keys = re.findall(r"(\w*(?:key|url|token|password|secret|credentials)\w*):", text)
    assert {"routing_key_file", "api_url_file"} <= set(keys)
    assert set(keys) <= {"routing_key_file", "api_url_file", "url"}
    for receiver in _config()["receivers"]:
        for kind, configs in receiver.items():
            for one in configs if kind.endswith("_configs") else ():
                files = [value for key, value in one.items() if key.endswith("_file")]
                assert files
                assert all(value.startswith("/etc/alertmanager/secrets/") for value in files)


def test_inhibitions_speak_of_alerts_that_exist() -> None:
    named = re.findall(r'alertname=~?"([^"]+)"', CONFIG.read_text())
    assert named
    assert {each for one in named for each in one.split("|")} <= set(alerts())


def test_the_message_counts_and_describes_what_it_speaks_of(tmp_path: Path) -> None:
    annotations = [{"summary": f"s{n}", "description": f"d{n}"} for n in range(3)]
    data = tmp_path / "data.json"
    data.write_text(json.dumps({"status": "firing", "alerts": [{"annotations": one} for one in annotations]}))

    def said(template: str) -> str:
        options = (f"--template.glob={FOLDER}/*.tmpl", f"--template.data={data}")
        done = run("amtool", "template", "render", *options, f'--template.text={{{{ template "{template}" . }}}}')
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    assert said("tidewaiter.summary") == "s0 (and 2 more)"
    assert said("tidewaiter.descriptions").splitlines() == ["- d0", "- d1", "- d2"]
