"""Commands on their way into partitions: what holds does not depend on the order in which they come."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest

from schemas import config
from schemas.control import Command, Label, Mute, Unmute
from stream.worker.board import Board


def mute(command_id: str, at_ms: int, **changes: Any) -> Mute:
    fields = {"mute_id": "m", "matcher": "cpu", "start_ms": 0, "end_ms": None}
    return Mute(command_id=command_id, at_ms=at_ms, **{**fields, **changes})


def label(at_ms: int, verdict: Any) -> Label:
    return Label(
        command_id=f"l{at_ms}", at_ms=at_ms, anomaly_id="a", series="cpu", verdict=verdict, started_ms=0
    )


FIRST, WIDER, LIFT = mute("1", 1), mute("2", 2, matcher="{}"), Unmute(command_id="3", at_ms=3, mute_id="m")


def told(*commands: Command) -> Board:
    board = Board(config.Config())
    for each in commands:
        board.take(msgspec.json.encode(each))
    return board


@pytest.mark.parametrize("order", list(itertools.permutations([FIRST, WIDER, LIFT, FIRST])))
def test_whatever_the_order_and_however_often_the_latest_command_holds(order: tuple[Command, ...]) -> None:
    assert told(*order).mutes == {"m": None}


def test_a_mute_that_is_set_again_after_it_was_lifted_holds() -> None:
    again = mute("4", 4)
    assert told(FIRST, LIFT, again, LIFT).mutes == {"m": again}


def test_of_two_commands_of_one_time_the_same_one_holds_whatever_their_order() -> None:
    a, b = mute("a", 1), mute("b", 1, matcher="{}")
    assert told(a, b).mutes == told(b, a).mutes == {"m": b}


def test_an_older_verdict_that_comes_later_changes_nothing() -> None:
    board = told(label(2, "true"), label(1, "false"))
    assert board.labels["a"].verdict == "true"
    assert board.changes == 1
