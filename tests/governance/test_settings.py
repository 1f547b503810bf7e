"""Settings of approvals."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from webhook.governance.settings import GovernanceSettings, unknown_environments


def test_an_environment_that_does_not_exist_is_named() -> None:
    settings = GovernanceSettings(approvers={"*": 1, "production": 2, "prodction": 2})

    assert list(unknown_environments(settings, ["staging", "production"])) == [
        (("approvers", "prodction"), "there is no such environment; use *, staging, production")
    ]


@pytest.mark.parametrize("number", [0, -1, 17])
def test_at_least_one_person_approves(number: int) -> None:
    with pytest.raises(ValidationError):
        GovernanceSettings(approvers={"production": number})
