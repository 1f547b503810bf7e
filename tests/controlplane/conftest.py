"""The control plane as a fixture."""

import contextlib
from collections.abc import Iterator

import pytest

from tests.controlplane.build_cache import BuildError
from tests.controlplane.cluster import ControlPlane, ControlPlaneError


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """One control plane for the whole test run; tests keep to namespaces of their own."""
    with contextlib.ExitStack() as stack:
        try:
            plane = stack.enter_context(ControlPlane(tmp_path_factory.mktemp("control-plane")))
        except (BuildError, ControlPlaneError) as error:
            # Their text says it all; a traceback would bury it.
            raise pytest.fail.Exception(str(error), pytrace=False) from None
        yield plane
