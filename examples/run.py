"""``make run``: start the webhook, send it the example pods as an API server would, stay up.

Decision records go to a file, so that the terminal shows what became of each pod.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import click
import jsonpatch
import yaml

from webhook.review_formats.text import coloured_diff

_HERE = Path(__file__).parent
_START_SECONDS = 30
_ROW = "-" * 78
_PAGE_TOKEN = "page-token"  # noqa: S105  # the name of its file


def main() -> int:
    """Run until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state", type=Path, default=Path(".venv/run"), help="where certificates and records go")
    parser.add_argument("--port", type=int, default=8443, help="port of the webhook (default 8443)")
    parser.add_argument("--health-port", type=int, default=8080, help="port of health and metrics (default 8080)")
    parser.add_argument("--page-port", type=int, default=8081, help="port of the page (default 8081)")
    parser.add_argument("--once", action="store_true", help="end after the examples instead of staying up")
    arguments = parser.parse_args()
    taken = [port for port in (arguments.port, arguments.health_port, arguments.page_port) if _taken(port)]
    if taken:
        words = " and ".join(map(str, taken))
        click.echo(
            f"port {words} of this machine is taken; end what listens there, or choose others: "
            'make run RUN="--port 18443 --health-port 18080 --page-port 18081"',
            err=True,
        )
        return 2
    arguments.state.mkdir(parents=True, exist_ok=True)
    settings = _settings(arguments)
    records = arguments.state / "decisions.jsonl"
    command = [sys.executable, "-m", "webhook", "serve", "--settings", str(settings)]
    command += ["--certificates", str(arguments.state)]
    with records.open("wb") as output:
        server = subprocess.Popen(command, stdout=output)
    try:
        if not _ready(server, arguments.health_port):
            return server.poll() or 1
        for path in sorted((_HERE / "pods").glob("*.yaml")):
            _show(path, arguments.port, arguments.state / "ca.crt")
        if arguments.once:
            return 0
        _say_what_next(arguments, records)
        return server.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        _end(server)


def _taken(port: int) -> bool:
    """Whether somebody listens there: who answered would not be ours."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return True
    return False


def _settings(arguments: argparse.Namespace) -> Path:
    """The example settings with these ports, and with paths that hold where the copy lies."""
    state = arguments.state.absolute()
    settings = yaml.safe_load((_HERE / "settings.yaml").read_text(encoding="utf-8"))
    settings["registries"][0]["path"] = str(_HERE / "registry.yaml")
    settings["server"] = {
        "address": "127.0.0.1",
        "port": arguments.port,
        "healthPort": arguments.health_port,
        "drainSeconds": 0,
    }
    settings["audit"] = {"path": str(state / "audit.db")}
    settings["page"] = {
        "enabled": True,
        "port": arguments.page_port,
        "auth": "local",
        "tokenFile": str(state / _PAGE_TOKEN),
    }
    path = state / "settings.yaml"
    path.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    return path


def _ready(server: subprocess.Popen[bytes], health_port: int) -> bool:
    """Whether the server became ready; it says itself why it ended where it did."""
    limit = time.monotonic() + _START_SECONDS
    while server.poll() is None and time.monotonic() < limit:
        connection = http.client.HTTPConnection("127.0.0.1", health_port, timeout=1)
        try:
            connection.request("GET", "/readyz")
            if connection.getresponse().status == http.HTTPStatus.OK:
                return True
        except OSError:
            time.sleep(0.05)
        finally:
            connection.close()
    return False


def _show(path: Path, port: int, ca: Path) -> None:
    text = path.read_text(encoding="utf-8")
    pod = yaml.safe_load(text)
    name = f"{path.stem}  {pod['metadata']['namespace']}/{pod['metadata']['name']}"
    click.echo(f"\n{_ROW}\n{click.style(name, bold=True)}")
    click.echo("".join(f"  {line[2:]}\n" for line in text.splitlines() if line.startswith("# ")), nl=False)
    mutated = _ask("/mutate", pod, port, ca)
    patch = json.loads(base64.b64decode(mutated.get("patch", b"W10=")))
    after = jsonpatch.apply_patch(pod, patch)
    validated = _ask("/validate", after, port, ca)
    for line in coloured_diff(pod, after, "  "):
        click.echo(line)
    if not patch:
        click.echo(click.style("  nothing is changed", dim=True))
    for warning in [*mutated.get("warnings", ()), *validated.get("warnings", ())]:
        click.echo(f"  {click.style('Warning:', fg='yellow')} {warning}")
    if validated["allowed"]:
        click.echo(click.style("  ADMITTED", fg="green", bold=True))
    else:
        click.echo(click.style("  REFUSED", fg="red", bold=True))
        for line in validated["status"]["message"].splitlines():
            click.echo(f"    {line}")


def _ask(path: str, pod: dict[str, Any], port: int, ca: Path) -> dict[str, Any]:
    """Send one AdmissionReview over HTTPS, verified by the CA, and return the response in it."""
    request = {
        "uid": str(uuid.uuid4()),
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "operation": "CREATE",
        "name": pod["metadata"]["name"],
        "namespace": pod["metadata"]["namespace"],
        "userInfo": {"username": "developer", "groups": ["system:authenticated"]},
        "object": pod,
    }
    review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    context = ssl.create_default_context(cafile=str(ca))
    connection = http.client.HTTPSConnection("localhost", port, timeout=10, context=context)
    try:
        connection.request("POST", path, json.dumps(review), {"Content-Type": "application/json"})
        answer: dict[str, Any] = json.loads(connection.getresponse().read())["response"]
    finally:
        connection.close()
    return answer


def _say_what_next(arguments: argparse.Namespace, records: Path) -> None:
    tidewaiter = Path(sys.executable).with_name("tidewaiter")
    shown = os.path.relpath(tidewaiter)
    port, health_port, state = arguments.port, arguments.health_port, arguments.state
    token = (state / _PAGE_TOKEN).read_text(encoding="utf-8").strip()
    click.echo(f"""
{_ROW}
Tidewaiter stays up on https://localhost:{port}. Read its decisions in a browser (the link works once):

  http://127.0.0.1:{arguments.page_port}/once/{token}

Try, in another terminal:

  {shown} review YOUR-MANIFEST.yaml --settings {os.path.relpath(_HERE)}/settings.yaml
  $EDITOR {os.path.relpath(_HERE)}/registry.yaml      approve resnet50:4, and send pod 3 again:
  {shown} review {os.path.relpath(_HERE)}/pods/3-unapproved.yaml --settings {os.path.relpath(_HERE)}/settings.yaml
  tail -f {records}      the decision log
  curl --cacert {state}/ca.crt https://localhost:{port}/readyz
  curl http://localhost:{health_port}/metrics

Ctrl-C ends it.""")


def _end(server: subprocess.Popen[bytes]) -> None:
    if server.poll() is None:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()


if __name__ == "__main__":
    sys.exit(main())
