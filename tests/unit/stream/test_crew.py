"""Requests that wait for a process: which go together, and what becomes of each."""

import asyncio
from collections.abc import Callable

import pytest

from schemas import config
from schemas.find import FindTask
from schemas.request import Failure, Find, Refit, Trigger
from stream import metrics as m
from stream.refresh import crew as module
from stream.refresh.crew import Crew
from stream.refresh.jobs import Done, Job, NotDone, Outcome

ENTRIES = [
    config.DetectorConfig(name="aer", match='cpu{tier="front"}'),
    config.DetectorConfig(name="aer", match='cpu{tier="back"}', params={"epochs": 5}),
    config.DetectorConfig(name="iforest"),
]


def refit(number: int, detector: str = "aer", tier: str = "front") -> Refit:
    return Refit(
        request_id=str(number), detector=detector, series=f'cpu{{n="{number}",tier="{tier}"}}', from_ms=0,
        until_ms=1, trigger=Trigger.AGE, adopt=True, deadline_ms=1000,
    )  # fmt: skip


def question(name: str) -> Find:
    task = FindTask(model="iforest", ts_ms=b"", columns={}, engine=config.Engine())
    return Find(request_id=name, task=task)


class Process:
    """Stands where a process that fits would: does what it is told with each job, and remembers them."""

    def __init__(self, jobs: list[list[str]], answer: Callable[[Job], list[Outcome] | NotDone]) -> None:
        self._jobs, self._answer = jobs, answer
        self.deadlines: list[float] = []

    async def run(self, job: Job, deadline_s: float) -> list[Outcome] | NotDone:
        self._jobs.append([asked.request_id for asked in job.requests])
        self.deadlines.append(deadline_s)
        await asyncio.sleep(0)
        return self._answer(job)


def crew_of(processes: int, jobs: list[list[str]], answer: Callable[[Job], list[Outcome] | NotDone]) -> Crew:
    cfg = config.Config(
        engine=config.Engine(detectors=ENTRIES), trainer=config.Trainer(processes=processes, stack=4)
    )

    async def begun(_asked: object) -> None:
        pass

    crew = Crew(cfg, m.Metrics("trainer"), begun)
    crew._idle = [Process(jobs, answer) for _ in range(processes)]
    return crew


def good(job: Job) -> list[Outcome]:
    return [Done(asked.request_id.encode()) for asked in job.requests]


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GATHER_S", 0.01)


async def test_what_has_one_detector_and_its_parameters_is_fitted_together():
    jobs: list[list[str]] = []
    crew = crew_of(1, jobs, good)
    asked = [
        refit(1), refit(2, tier="back"), refit(3), refit(4, "iforest"), refit(5), refit(6, tier="back"),
        *(refit(n) for n in (7, 8)),
    ]  # fmt: skip
    found = await asyncio.gather(*(crew.work(each) for each in asked))
    assert [each.outcome for each in found] == [Done(each.request_id.encode()) for each in asked]
    assert sorted(jobs) == [["1", "3", "5", "7"], ["2", "6"], ["4"], ["8"]]


async def test_idle_processes_share_what_waits():
    jobs: list[list[str]] = []
    crew = crew_of(3, jobs, good)
    await asyncio.gather(*(crew.work(refit(n)) for n in range(6)))
    assert sorted(map(len, jobs)) == [3, 3]


async def test_refits_leave_a_process_to_those_who_wait_for_an_answer():
    jobs: list[list[str]] = []
    crew = crew_of(2, jobs, good)
    refits = [asyncio.create_task(crew.work(refit(n, "iforest"))) for n in range(3)]
    await asyncio.sleep(0)
    find = asyncio.create_task(crew.work(question("asked")))
    await asyncio.gather(find, *refits)
    assert jobs == [["0"], ["asked"], ["1"], ["2"]]


async def test_one_that_ends_its_process_does_not_spoil_the_others():
    jobs: list[list[str]] = []

    def answer(job: Job) -> list[Outcome] | NotDone:
        return NotDone(Failure.DIED, "") if any(a.request_id == "2" for a in job.requests) else good(job)

    crew = crew_of(1, jobs, answer)
    found = await asyncio.gather(*(crew.work(refit(n)) for n in (1, 2, 3)))
    assert [isinstance(each.outcome, Done) for each in found] == [True, False, True]
    assert jobs == [["1", "2", "3"], ["1"], ["2"], ["3"]]


async def test_who_gives_up_is_not_waited_for():
    jobs: list[list[str]] = []
    crew = crew_of(1, jobs, good)
    one, other = (asyncio.create_task(crew.work(refit(n))) for n in (1, 2))
    await asyncio.sleep(0)
    one.cancel()
    assert (await other).outcome == Done(b"2")
    assert jobs == [["2"]]
