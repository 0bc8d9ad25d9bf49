"""Questions of Explore that are being worked on."""

from __future__ import annotations

from console.pages.asking import Work
from console.pages.client import Failed, Running


def test_questions_are_looked_at_in_turns() -> None:
    work = Work("telemetry", ["a", "b", "c"])
    for metric in work.metrics:
        work.take(metric, Running(f"job {metric}", {"default": 0.0}))
    work.take("a", Running("job a", {"default": 0.5}))
    assert list(work.running) == ["b", "c", "a"]
    work.take("b", {"default": Failed("no samples")})
    assert list(work.running) == ["c", "a"]
    assert work.found["b"]["default"].error == "no samples"
