"""The kit of the integration tests serves here too."""

from collections.abc import Iterator

import pytest

from tests.faults.ledger import Ledger
from tests.integration.conftest import kit, metric, receiver

__all__ = ["kit", "metric", "receiver"]


@pytest.fixture(scope="module")
def total(request: pytest.FixtureRequest) -> Iterator[Ledger]:
    """Of all rounds; printed at the end."""
    ledger = Ledger()
    yield ledger
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(f"\nin all\n{ledger}")
