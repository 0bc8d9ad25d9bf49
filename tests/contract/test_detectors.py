"""The public contract suite on every registered detector."""

import pytest

from detectors import registry
from detectors.checks import CHECKS, Subject


@pytest.mark.parametrize("name", registry.names())
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_detector_keeps_its_contract(name, check):
    check(Subject(registry.load(name)))
