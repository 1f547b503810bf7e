"""No secret of a known shape reaches the log, the file, or anything that is shown."""

from __future__ import annotations

import io
import string
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from admission.decision import Decision, Injection, Purpose
from admission.finding import Action, Finding, JudgedFinding
from admission.model_reference import ModelReference
from audit.masking import mask_text
from audit.record import decision_record
from audit.settings import AuditSettings
from audit.sqlite_records import SqliteRecords
from audit.trail import open_trail
from tests.kernel import request
from webhook.cli import main

_ALNUM = string.ascii_letters + string.digits
_UPPER = string.ascii_uppercase + string.digits
_BASE64 = _ALNUM + "-_"


def _some(alphabet: str, number: int) -> st.SearchStrategy[str]:
    return st.text(alphabet, min_size=number, max_size=number)


SHAPES: dict[str, tuple[str, str, int, str]] = {
    "Hugging Face": ("hf_", _ALNUM, 34, ""),
    "AWS key": ("AKIA", _UPPER, 16, ""),
    "AWS session key": ("ASIA", _UPPER, 16, ""),
    "GitHub": ("ghp_", _ALNUM, 36, ""),
    "GitHub app": ("ghs_", _ALNUM, 36, ""),
    "GitHub fine-grained": ("github_pat_", _ALNUM + "_", 60, ""),
    "GitLab": ("glpat-", _BASE64, 20, ""),
    "Slack bot": ("xoxb-", string.digits + "-", 24, ""),
    "Slack app": ("xapp-", _ALNUM + "-", 24, ""),
    "JWT": ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJtaWEifQ.", _BASE64, 30, ""),
    "private key": ("-----BEGIN RSA PRIVATE KEY-----\n", _ALNUM, 60, "\n-----END RSA PRIVATE KEY-----"),
    "NVIDIA": ("nvapi-", _BASE64, 40, ""),
    "OpenAI": ("sk-", _ALNUM, 40, ""),
    "Stripe": ("sk_live_", _ALNUM, 24, ""),
    "Google API": ("AIza", _BASE64, 35, ""),
    "Google OAuth": ("ya29.", _BASE64, 40, ""),
    "npm": ("npm_", _ALNUM, 36, ""),
    "PyPI": ("pypi-", _BASE64, 60, ""),
    "Docker Hub": ("dckr_pat_", _BASE64, 27, ""),
    "SendGrid": ("SG.abcdefghijklmnop1234.", _BASE64, 43, ""),
    "Vault": ("hvs.", _BASE64, 24, ""),
    "Azure storage": ("DefaultEndpointsProtocol=https;AccountKey=", _ALNUM, 60, "==;EndpointSuffix=x"),
    "bearer header": ("Authorization: Bearer ", _ALNUM, 30, ""),
    "basic header": ("Authorization: Basic ", _ALNUM, 24, "=="),
    "URL with user": ("https://mia:", _ALNUM, 12, "@host/m"),
    "URL without user": ("redis://:", _ALNUM, 12, "@cache:6379/0"),
    "signed URL": ("https://b.s3.amazonaws.com/m?X-Amz-Signature=", string.hexdigits, 64, "&x=1"),
    "option": ("serve --api-key=", _ALNUM, 12, " --port 1"),
    "variable in a shell": ("export DB_PASSWORD=", _ALNUM, 12, " && serve"),
}
"""What stands before a secret, of what and how long it is, what stands after it."""


def _record(text: str, uid: str = "u-1") -> dict[str, Any]:
    """A record with the text wherever a request's author can bring one in."""
    finding = Finding("image-pinned", text, f"found {text}", f"instead of {text}", text)
    decision = Decision(
        uid=uid,
        purpose=Purpose.VALIDATE,
        allowed=False,
        recognised="triton",
        environment="production",
        workload=text,
        model=ModelReference(text, text, text),
        digest=text,
        findings=(replace(JudgedFinding(finding, Action.DENY), exception=text),),
        injections=(Injection("m", (f"set {text}",)),),
        patch=(
            {"op": "add", "path": "/spec/containers/0/args", "value": ["serve", text]},
            {"op": "add", "path": "/spec/containers/0/env", "value": [{"name": "HARMLESS", "value": text}]},
            {"op": "add", "path": "/metadata/annotations", "value": {"note": f"see {text}."}},
        ),
        ignored=text,
        error=f"went wrong: {text}",
    )
    asked = request({}, name=text, userInfo={"username": text, "groups": [text]})
    return decision_record(decision, asked, datetime.now(UTC), 0.001, "p1")


@pytest.mark.parametrize("shape", SHAPES)
@given(st.data())
@settings(max_examples=2, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_secret_reaches_the_log_or_the_file_or_what_is_shown(
    tmp_path_factory: pytest.TempPathFactory, shape: str, data: st.DataObject
) -> None:
    before, alphabet, length, after = SHAPES[shape]
    secret = "Zq7" + data.draw(_some(alphabet, length)) if alphabet not in (_UPPER, string.digits + "-") else data.draw(
        _some(alphabet, length).filter(lambda text: len(set(text)) > 4)
    )  # fmt: skip
    secret = secret[:length]
    folder: Path = tmp_path_factory.mktemp("secrets")
    stream = io.BytesIO()
    trail = open_trail(AuditSettings(path=folder / "audit.db"), stream)
    trail.write(_record(f"{before}{secret}{after}"))
    trail.close(20)

    outputs = [stream.getvalue().decode()]
    records = SqliteRecords(folder / "audit.db")
    outputs += [one.line.decode() for one in records.entries()]  # type: ignore[union-attr]  # nothing is damaged
    records.close()
    outputs.append((folder / "audit.db").read_bytes().decode("latin-1"))
    for arguments in (["tail"], ["search", "--format", "csv"], ["show", "u-1"], ["show", "u-1", "--format", "json"],
                      ["stats"], ["export"], ["verify"]):  # fmt: skip
        ran = CliRunner().invoke(main, ["audit", *arguments, "-r", str(folder / "audit.db")])
        assert ran.exit_code == 0, ran.output
        outputs.append(ran.output)
    assert "***" in outputs[0]
    assert not [text for text in outputs if secret in text]


@pytest.mark.parametrize(
    "text",
    [
        "Basic validation of the model",
        "Bearer authentication is off",
        "TOKENIZERS_PARALLELISM=false MAX_NUM_TOKENS=8",
        "sha256:" + "0a1b" * 16,
        "registry.example.com/team/npm_mirror:1.2",
        "s3://models/SG.large/v1",
        "pypi-mirror",
    ],
)
def test_what_is_no_secret_stays_readable(text: str) -> None:
    assert mask_text(text) == text
