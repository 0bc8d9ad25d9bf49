"""A process that fits: `python -m stream.refresh.fitting` reads jobs from standard input and writes outcomes.

It is a process of its own because a fit may hang, crash or eat all memory, and because the embedded engines
must not be forked. Messages are those of `stream.refresh.jobs`. Whatever a library prints goes to standard
error.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, NamedTuple, TypeVar

import msgspec
import numpy as np

from detectors import registry
from detectors.batch import Artifact, BatchDetector, FitError, History, fits_many, is_batch, unpack
from schemas import config
from schemas.find import FindTask
from schemas.request import Failure, Find, Refit
from stream.errors import UserError
from stream.refresh import training
from stream.refresh.artifacts import ArtifactStore, MissingArtifactError, packed, store_of
from stream.refresh.finding import find
from stream.refresh.jobs import Answered, Done, Job, NotDone, Outcome, receive, send
from stream.refresh.settings import Settings, settings_of
from stream.refresh.shadow import shadow
from stream.refresh.training import Spans
from stream.store.clickhouse import Client, RefusedError, UnavailableError
from stream.topics import MAX_MESSAGE_BYTES

NICENESS: Final = 10
"""Fits give way to a worker on the same machine. Less makes its samples late; more starves a fit."""

REFIT_NICENESS: Final = 19
"""Nobody waits for a refit: it takes what is left over. With 10 the events of a worker beside it are late."""

_PR_SET_PDEATHSIG: Final = 1

T = TypeVar("T")


def work(job: Job) -> list[Outcome]:
    """Do a job, an outcome for each request; every failure that Python can see becomes one."""
    first = job.requests[0]
    if isinstance(first, Find):
        return [_outcome(partial(_answered, first, job.cfg))]
    refits = [asked for asked in job.requests if isinstance(asked, Refit)]
    return _aside(partial(_refitted, refits, job.cfg))


def _refitted(refits: Sequence[Refit], cfg: config.Config) -> list[Outcome]:
    try:
        with contextlib.closing(Client.connect(cfg.clickhouse)) as client:
            return _fit(client, refits, cfg)
    except (UnavailableError, RefusedError, OSError) as error:
        return [NotDone(Failure.UNAVAILABLE, str(error))] * len(refits)


def _aside(make: Callable[[], T]) -> T:
    """Make it at the lowest priority, in a thread: what a process has lowered it may not raise again."""

    def lowered() -> T:
        if sys.platform == "linux":  # elsewhere threads share the priority of their process
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), REFIT_NICENESS)
        return make()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lowered).result()


def _outcome(make: Callable[[], T]) -> T | NotDone:
    """What is made, or why it is not."""
    try:
        return make()
    except FitError as error:
        return NotDone(Failure(error.reason), str(error))
    except MemoryError:
        return NotDone(Failure.MEMORY, "no memory could be had")
    except (UnavailableError, RefusedError, OSError) as error:
        return NotDone(Failure.UNAVAILABLE, str(error))
    except UserError as error:
        return NotDone(Failure.IMPOSSIBLE, str(error))
    except Exception as error:  # noqa: BLE001  # a detector of anybody: told, counted, and the old model stays
        return NotDone(Failure.RAISED, f"{type(error).__name__}: {error}")


def _answered(asked: Find, cfg: config.Config) -> Answered:
    return Answered(find(asked.task, _named(asked.task, cfg)))


def _named(task: FindTask, cfg: config.Config) -> Artifact | None:
    """The artifact to judge with. One that the store has dropped since is done without: the answer tells."""
    if task.fitted is None:
        return None
    try:
        message = store_of(cfg).get(task.model, task.fitted.series, task.fitted.artifact_id)
    except MissingArtifactError:
        return None
    return unpack(message.payload)


class Learned(NamedTuple):
    """What a model is fitted on."""

    asked: Refit
    detector: type[BatchDetector]
    settings: Settings
    history: History
    labelled: Spans
    left_out: Spans

    @property
    def to_fit(self) -> History:
        return training.without(self.history, self.left_out)


def _fit(client: Client, refits: Sequence[Refit], cfg: config.Config) -> list[Outcome]:
    """Read the histories, fit those that can be, together where the detector does so, and finish each."""
    began = time.monotonic()
    read = [_outcome(partial(_learned, client, cfg, asked, began)) for asked in refits]
    usable = [each for each in read if isinstance(each, Learned)]
    made = dict(zip(map(id, usable), _models(usable, cfg.engine.seed), strict=True))
    return [
        each if isinstance(each, NotDone) else _outcome(partial(_finished, client, cfg, each, made[id(each)]))
        for each in read
    ]


def _learned(client: Client, cfg: config.Config, asked: Refit, began: float) -> Learned:
    settings = settings_of(cfg, asked)
    detector = registry.load(asked.detector)
    if not is_batch(detector):
        raise UserError(f"{asked.detector} is not a detector that is fitted")
    between = asked.from_ms, asked.until_ms
    if settings.grouping is None:
        channels = training.arrived(client, lambda: [asked.series], asked.until_ms, began)
        history = training.read(client, asked.series, *between)
    else:
        members = partial(training.members, client, settings.grouping, asked.series, *between)
        channels = training.arrived(client, members, asked.until_ms, began)
        history = training.joined(client, channels, *between, settings.grouping.cfg.interval_ms)
    named = [asked.series, *channels]
    labelled = training.labelled(client, named, *between)
    unlearned = training.unlearned(client, named, *between)
    if not len(history.ts_ms):
        raise FitError("too_little_history", "there is no history in ClickHouse")
    return Learned(asked, detector, settings, history, labelled, [*labelled, *unlearned])


def _models(learned: Sequence[Learned], seed: int) -> Sequence[Artifact | NotDone]:
    """A model of each history; all of them have one detector with the same parameters."""
    if not learned:
        return []
    detector, params = learned[0].detector, learned[0].settings.params
    histories = [each.to_fit for each in learned]
    if len(learned) > 1 and fits_many(detector):
        made = _outcome(partial(detector.fit_many, params, histories, seed))
        if not isinstance(made, NotDone):
            return [_told(each) for each in made]
        # One history has spoiled it for all: each by itself, so that the others have their models.
    return [_outcome(partial(detector.fit, params, each, seed)) for each in histories]


def _told(made: Artifact | FitError) -> Artifact | NotDone:
    return NotDone(Failure(made.reason), str(made)) if isinstance(made, FitError) else made


def _finished(client: Client, cfg: config.Config, learned: Learned, made: Artifact | NotDone) -> Outcome:
    """The model with its report, packed and noted."""
    if isinstance(made, NotDone):
        return made
    if not _finite(made):
        return NotDone(Failure.NOT_FINITE, "the fit gave values that are not finite")
    asked, settings = learned.asked, learned.settings
    report = shadow(
        settings.engine,
        cfg.trainer.shadow_ms,
        asked,
        learned.history,
        learned.labelled,
        made,
        _serving(store_of(cfg), asked),
    )
    told = {"trigger": str(asked.trigger), **report}
    message = packed(
        learned.detector, settings.params, asked.series, learned.history, cfg.engine.seed, made, told
    )
    encoded = message.encode()
    if len(encoded) > MAX_MESSAGE_BYTES:
        return NotDone(Failure.TOO_LARGE, f"{len(encoded)} bytes, a message holds {MAX_MESSAGE_BYTES}")
    training.store(client, message.manifest)
    return Done(encoded)


def _serving(store: ArtifactStore, asked: Refit) -> Artifact | None:
    """The artifact in use; without it, or with one of another version, there is nothing to compare."""
    if not asked.serving:
        return None
    try:
        message = store.get(asked.detector, asked.series, asked.serving)
    except MissingArtifactError:
        return None
    same = message.manifest.version == registry.load(asked.detector).version
    return unpack(message.payload) if same else None


def _finite(made: Artifact) -> bool:
    arrays = all(np.isfinite(a).all() for a in made.arrays.values() if a.dtype.kind == "f")
    return arrays and all(np.isfinite(v) for v in made.facts.values() if isinstance(v, float))


def main() -> None:
    """Work until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the trainer
    os.nice(NICENESS)
    # A trainer that is killed takes its fits with it: one that hangs would stay for ever.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    while (message := receive(sys.stdin.buffer)) is not None:
        outcomes = work(msgspec.msgpack.decode(message, type=Job))
        send(answers, msgspec.msgpack.encode(outcomes))


if __name__ == "__main__":
    main()
