"""The engines as the service puts them together, also on the event loop that it uses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from admission.finding import Action
from admission.validator import RuleFailure, RuleSettings
from tests.rego.policies import LOOPS, SAYS, Failures, labelled, rule
from webhook.rego.child_engine import ChildLimits
from webhook.rego.combined_engine import CombinedEngine
from webhook.rego.engine_makers import by_opa, in_child, in_process
from webhook.rego.opa_client import OpaServer
from webhook.rego.policy_store import PolicyStore
from webhook.rego.sources import FolderSource, policy_source


def settings(rule_id: str) -> RuleSettings:
    return RuleSettings(action={"*": Action.DENY if rule_id == "says" else Action.WARN})


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_shipped_and_own_policies_work_together(tmp_path: Path, loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    (tmp_path / "says.rego").write_bytes(rule("says", SAYS))
    (tmp_path / "loops.rego").write_bytes(rule("loops", LOOPS))
    failures = Failures()

    async def main() -> None:
        shipped = PolicyStore(policy_source(None), in_process(settings, failures))
        own = PolicyStore(FolderSource(tmp_path), in_child(settings, failures, ChildLimits(0.2, 30)))
        for store in (shipped, own):
            await store.start()
        engine = CombinedEngine([shipped, own])
        assert {"host-access", "says", "loops"} <= set(engine.rules)
        assert engine.rules["says"].settings.action == {"*": Action.DENY}
        found = await engine.evaluate(labelled(say="x", loop="y"))
        assert isinstance(found["loops"], RuleFailure)
        assert {"host-access", "image-registry", "memory-limits", "says", "loops"} == set(found)
        (tmp_path / "loops.rego").write_bytes(rule("loops", SAYS))
        await own.refresh()
        found = await engine.evaluate(labelled(say="x", loop="y"))
        assert isinstance(found["loops"], list)
        await engine.close()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(asyncio.wait_for(main(), 60))
    assert failures.seen == [("loops", "timeout")]


def test_an_opa_that_is_not_there_fails_the_rules_of_its_store(tmp_path: Path) -> None:
    (tmp_path / "says.rego").write_bytes(rule("says", SAYS))

    async def main() -> None:
        store = PolicyStore(FolderSource(tmp_path), by_opa(OpaServer("http://127.0.0.1:1"), settings))
        await store.start()
        assert store.rules["says"].settings.action == {"*": Action.DENY}
        assert isinstance((await store.evaluate(labelled()))["says"], RuleFailure)
        await store.close()

    asyncio.run(asyncio.wait_for(main(), 60))


def test_a_reload_cannot_take_the_id_of_a_shipped_rule(tmp_path: Path) -> None:
    (tmp_path / "says.rego").write_bytes(rule("says", SAYS))

    async def main() -> None:
        shipped = PolicyStore(policy_source(None), in_process(settings))
        await shipped.start()
        own = PolicyStore(FolderSource(tmp_path), in_child(settings, taken=shipped.rules))
        await own.start()
        (tmp_path / "more.rego").write_bytes(rule("host-access", SAYS))
        await own.refresh()
        assert set(own.rules) == {"says"}
        assert "more.rego: rule id host-access is that of a policy that comes with Tidewaiter" in own.problem
        await own.close()

    asyncio.run(asyncio.wait_for(main(), 60))
