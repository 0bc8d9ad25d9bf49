"""What the requests of one application share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from console.find import Jobs
from console.rates import Rates
from console.serving import Serving
from schemas import config
from stream.store.clickhouse import ClickHouse


@dataclass(frozen=True)
class State:
    cfg: config.Config
    store: ClickHouse
    jobs: Jobs
    serving: Serving
    rates: Rates = field(default_factory=Rates)


def _state(request: Request) -> State:
    state: State = request.app.state.tocsin
    return state


Shared = Annotated[State, Depends(_state)]
"""An argument of a handler."""
