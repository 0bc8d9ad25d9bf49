"""What a fit takes from the configuration, and what it may take of the machine."""

import os
import subprocess
import sys

import pytest

from schemas import config
from schemas.request import Refit, Trigger
from stream.errors import UserError
from stream.refresh.fitting import REFIT_NICENESS, _aside, settings_of


def asked(series):
    return Refit(
        request_id="r", detector="iforest", series=series, from_ms=0, until_ms=1, trigger=Trigger.PERSON,
        adopt=True,
    )  # fmt: skip


def test_a_model_is_fitted_with_the_parameters_of_the_entry_that_judges_its_series():
    entries = [
        config.DetectorConfig(name="large"),
        config.DetectorConfig(name="iforest", match='cpu{host="a"}', params={"n_estimators": 10}),
        config.DetectorConfig(name="iforest", match='cpu{host!="a"}', params={"n_estimators": 20}),
    ]
    cfg = config.Config(engine=config.Engine(detectors=entries))
    trees = [
        settings_of(cfg, asked(series)).params["n_estimators"]
        for series in ('cpu{host="a"}', 'cpu{host="b"}', "cpu")
    ]
    assert trees == [10, 20, 20]
    with pytest.raises(
        UserError, match=r"no entry of engine\.detectors or engine\.groups named iforest matches mem"
    ):
        settings_of(cfg, asked("mem"))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads share the priority of their process")
def test_a_refit_and_its_children_have_the_lowest_priority_and_the_process_keeps_its_own():
    before = os.getpriority(os.PRIO_PROCESS, 0)
    assert int(_aside(lambda: subprocess.check_output(["nice"]))) == REFIT_NICENESS
    assert os.getpriority(os.PRIO_PROCESS, 0) == before
