"""The kit of the integration tests serves here too."""

from tests.integration.conftest import kit, metric

__all__ = ["kit", "metric"]
