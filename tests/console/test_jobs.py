"""Jobs of `/find`: the cache, cancelling, deadlines, and that one model does not fail another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from console.find import Cache, Job, Jobs, content_key
from schemas import config
from schemas.find import FindTask, Fitted, Found, IntervalsFound
from stream.errors import UserError

NOTHING = IntervalsFound(ts_ms=b"", value=b"", score=b"", intervals=[])


def task(model: str = "large", **more: Any) -> FindTask:
    values = np.arange(3.0).tobytes()
    return FindTask(model=model, ts_ms=values, columns={"v": values}, engine=config.Engine(), **more)


class Answering:
    """Answers at once; counts."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def __call__(self, asked: FindTask, progress: Callable[[float], None]) -> Found:
        self.asked.append(asked.model)
        progress(0.5)
        if asked.model == "fails":
            raise UserError("it cannot be done")
        if asked.model == "slow":
            await asyncio.sleep(60)
        return NOTHING


async def done(jobs: Jobs, *models: str) -> Job:
    job = jobs.start({model: task(model) for model in models})
    await job.wait(30)
    return job


async def test_the_same_question_is_answered_from_the_cache() -> None:
    answering = Answering()
    jobs = Jobs(answering, Cache(1_000_000), 60)
    for _ in range(3):
        assert (await done(jobs, "large")).parts["large"].found == NOTHING
    assert answering.asked == ["large"]


def test_what_a_question_is_about_is_its_content() -> None:
    keys = {
        content_key(each)
        for each in (
            task(),
            task("rare"),
            task(params={"alert_budget": 1}),
            task(fitted=Fitted("s", "a")),
            task(fitted=Fitted("s", "b")),
        )
    }
    assert len(keys) == 5
    assert content_key(task(params={"a": 1, "b": 2})) == content_key(task(params={"b": 2, "a": 1}))


def test_the_cache_forgets_what_was_not_asked_for_longest() -> None:
    one = IntervalsFound(ts_ms=bytes(400), value=b"", score=b"", intervals=[])
    cache = Cache(1_200)
    for key in ("a", "b"):
        cache.put(key, one)
    assert cache.get("a") == one
    cache.put("c", one)
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == (one, None, one)


async def test_a_model_that_fails_does_not_fail_the_others() -> None:
    job = await done(Jobs(Answering(), Cache(1_000_000), 60), "large", "fails")
    assert (job.parts["large"].status, job.parts["fails"].status) == ("done", "failed")
    assert job.parts["fails"].error == "it cannot be done"
    assert job.status == "done"


async def test_what_takes_too_long_is_given_up_with_a_sentence_that_says_what_to_do() -> None:
    job = await done(Jobs(Answering(), Cache(1_000_000), 0.05), "large", "slow")
    assert job.parts["large"].status == "done"
    assert "ask for a shorter range, or raise console.find_deadline_ms" in job.parts["slow"].error


async def test_cancelling_stops_the_work_and_keeps_what_was_found() -> None:
    jobs = Jobs(Answering(), Cache(1_000_000), 60)
    job = jobs.start({model: task(model) for model in ("large", "slow")})
    while job.parts["large"].status != "done":
        await job.changed.wait()
    jobs.cancel(job)
    await job.wait(30)
    assert job.status == "cancelled"
    assert {name: part.status for name, part in job.parts.items()} == {"large": "done", "slow": "cancelled"}
    assert job.parts["large"].found == NOTHING


async def test_questions_beyond_what_is_remembered_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("console.find.MAX_JOBS", 2)
    jobs = Jobs(Answering(), Cache(1_000_000), 60)
    first = await done(jobs, "large")
    jobs.start({"slow": task("slow")})
    jobs.start({"slow": task("slow")})  # in the place of the one that has ended
    assert jobs.get(first.job_id) is None
    with pytest.raises(UserError, match="ask again later"):
        jobs.start({"slow": task("slow")})
    await jobs.close()
