"""The steps of a commit, and the states of a partition."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from stream.kafka import KafkaError, Message, TopicPartition
from stream.worker.checkpoint import Checkpoint
from stream.worker.lifecycle import LEGAL, Lifecycle, State

HERE = TopicPartition("telemetry", 1)


class Recorder:
    """Writes down the steps; fails, or hangs, in one of them."""

    def __init__(self, fail_in: str = "", hang_in: str = "") -> None:
        self.steps: list[str] = []
        self._fail_in, self._hang_in = fail_in, hang_in

    async def _step(self, name: str, text: str = "") -> None:
        self.steps.append(text or name)
        if name == self._hang_in:
            await asyncio.Event().wait()
        if name == self._fail_in:
            raise KafkaError(name)

    async def begin(self) -> None:
        await self._step("begin")

    async def send(self, messages: Sequence[Message]) -> None:
        await self._step("send", f"send {messages[0].topic}")

    async def send_offset(self, group_id: str, partition: TopicPartition, next_offset: int) -> None:
        await self._step("offset", f"offset {group_id} {partition.partition} {next_offset}")

    async def flush(self) -> None:
        await self._step("flush")

    async def commit(self) -> None:
        await self._step("commit")

    async def abort(self) -> None:
        await self._step("abort")


def checkpoint() -> Checkpoint:
    return Checkpoint("g", HERE, 42, events=[Message("events", b"")], dead_letters=[Message("letters", b"")])


async def test_a_commit_goes_through_its_steps_in_order_and_skips_empty_outputs() -> None:
    recorder = Recorder()
    await checkpoint().commit(recorder, 1)
    assert recorder.steps == ["begin", "send events", "send letters", "offset g 1 42", "flush", "commit"]


@pytest.mark.parametrize("step", ["send", "offset", "flush"])
async def test_a_failure_before_the_commit_aborts_and_is_raised(step: str) -> None:
    recorder = Recorder(fail_in=step)
    with pytest.raises(KafkaError):
        await checkpoint().commit(recorder, 1)
    assert recorder.steps[-1] == "abort"
    assert "commit" not in recorder.steps


async def test_a_failed_commit_is_in_doubt_and_not_aborted() -> None:
    recorder = Recorder(fail_in="commit")
    with pytest.raises(KafkaError):
        await checkpoint().commit(recorder, 1)
    assert recorder.steps[-1] == "commit"


@pytest.mark.parametrize("step", ["begin", "send", "offset", "flush", "commit"])
async def test_one_budget_covers_all_steps(step: str) -> None:
    with pytest.raises(TimeoutError):
        await checkpoint().commit(Recorder(hang_in=step), 0.02)


def test_a_partition_passes_the_fence_before_it_restores_and_restores_before_it_runs() -> None:
    seen: list[State] = []
    life = Lifecycle(seen.append)
    for state in (
        State.FENCING,
        State.RESTORING,
        State.REPLAYING,
        State.RUNNING,
        State.RECOVERING,
        State.FENCING,
    ):
        life.to(state)
    assert seen[0] is State.ASSIGNED
    with pytest.raises(AssertionError, match="from fencing to running"):
        life.to(State.RUNNING)


def test_every_state_but_the_last_can_stop() -> None:
    assert all(State.STOPPED in LEGAL[state] for state in State if state is not State.STOPPED)
    assert not LEGAL[State.STOPPED]
