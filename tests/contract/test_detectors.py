"""The public contract suite on every registered detector."""

from functools import cache

import pytest

from detectors import registry
from detectors.checks import Subject, checks_of

PARAMS = {"aer": {"epochs": 4, "max_windows": 256}}
"""Cheaper than the defaults, where a fit of a default takes long."""


@cache  # fitted once, and loaded when first asked for
def subject(name):
    return Subject(registry.load(name), PARAMS.get(name, {}))


@pytest.mark.parametrize(
    ("name", "check"),
    [(name, check) for name in registry.names() for check in checks_of(subject(name))],
    ids=lambda each: each if isinstance(each, str) else each.__name__,
)
def test_detector_keeps_its_contract(name, check):
    check(subject(name))
