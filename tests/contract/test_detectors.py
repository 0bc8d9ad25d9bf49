"""The public contract suite on every registered detector."""

from functools import cache

import pytest

from bench.river import MODELS
from detectors import registry
from detectors.checks import Subject, checks_of

PARAMS = {"aer": {"epochs": 4, "max_windows": 256}}
"""Cheaper than the defaults, where a fit of a default takes long."""


RIVER = {f"river, {name}": spec for name, spec in MODELS.items() if name != "HalfSpaceTrees"}
"""Each model that the docs name; the first is the default, and is there already."""


def history(name):
    """Short ones: each sample is learned about three times, by LocalOutlierFactor in 10 ms."""
    if "LocalOutlierFactor" in name:
        return {"memory": 32, "remake_every": 16, "warm_up": 16}
    return {"memory": 64, "remake_every": 32, "warm_up": 32}


@cache  # fitted once, and loaded when first asked for
def subject(name):
    if name in RIVER:
        return Subject(registry.load("river"), {"model": RIVER[name], **history(name)})
    return Subject(registry.load(name), PARAMS.get(name, {}))


@pytest.mark.parametrize(
    ("name", "check"),
    [(name, check) for name in [*registry.names(), *RIVER] for check in checks_of(subject(name))],
    ids=lambda each: each if isinstance(each, str) else each.__name__,
)
def test_detector_keeps_its_contract(name, check):
    check(subject(name))
