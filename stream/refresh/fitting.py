"""A process that fits: `python -m stream.refresh.fitting` reads jobs from standard input and writes outcomes.

It is a process of its own because a fit may hang, crash or eat all memory, and because the embedded engines
must not be forked. A message is 4 bytes of length (little-endian) and MessagePack. Whatever a library prints
goes to standard error.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import signal
import sys
from collections.abc import Mapping
from typing import Any, BinaryIO, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from detectors import registry
from detectors.batch import Artifact, BatchDetector, FitError, History, is_batch, pack, unpack
from detectors.engine import Engine
from detectors.protocol import Samples
from schemas import config
from schemas.artifact import ArtifactMessage, Manifest
from schemas.event import AnomalyEvent
from schemas.find import Found
from schemas.matcher import Matcher
from schemas.request import Failure, Find, Refit
from schemas.series import Series
from stream.errors import UserError
from stream.refresh import training
from stream.refresh.artifacts import ArtifactStore, MissingArtifactError, store_of
from stream.refresh.finding import find
from stream.refresh.training import Spans
from stream.store.clickhouse import Client, RefusedError, UnavailableError
from stream.topics import MAX_MESSAGE_BYTES

_PR_SET_PDEATHSIG: Final = 1


class Job(msgspec.Struct, frozen=True):
    """A request and the configuration to do it with."""

    request: Refit | Find
    cfg: config.Config


class Done(msgspec.Struct, frozen=True, tag="done"):
    """``message`` is an encoded `ArtifactMessage`."""

    message: bytes


class Answered(msgspec.Struct, frozen=True, tag="answered"):
    found: Found


class NotDone(msgspec.Struct, frozen=True, tag="not_done"):
    reason: Failure
    text: str


Outcome = Done | Answered | NotDone


def work(job: Job) -> Outcome:
    """Do a job; every failure that Python can see becomes an outcome."""
    try:
        return _work(job)
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


def _work(job: Job) -> Outcome:
    asked, cfg = job.request, job.cfg
    if isinstance(asked, Find):
        return Answered(find(asked.task))
    with contextlib.closing(Client.connect(cfg.clickhouse)) as client:
        return _fit(client, asked, cfg)


def _fit(client: Client, asked: Refit, cfg: config.Config) -> Outcome:
    training.arrived(client, asked.series, asked.until_ms)
    history = training.read(client, asked.series, asked.from_ms, asked.until_ms)
    labelled = training.labelled(client, asked.series, asked.from_ms, asked.until_ms)
    unlearned = training.unlearned(client, asked.series, asked.from_ms, asked.until_ms)
    if not len(history.ts_ms):
        raise FitError("too_little_history", "there is no history in ClickHouse")
    settings = settings_of(cfg, asked)
    detector = registry.load(asked.detector)
    if not is_batch(detector):
        return NotDone(Failure.RAISED, f"{asked.detector} is not a detector that is fitted")
    made = detector.fit(settings.params, training.without(history, [*labelled, *unlearned]), cfg.engine.seed)
    if not _finite(made):
        return NotDone(Failure.NOT_FINITE, "the fit gave values that are not finite")
    report = shadow(cfg, asked, history, labelled, made, _serving(store_of(cfg), asked))
    message = packed(detector, settings.params, asked, history, cfg.engine.seed, made, report)
    encoded = message.encode()
    if len(encoded) > MAX_MESSAGE_BYTES:
        return NotDone(Failure.TOO_LARGE, f"{len(encoded)} bytes, a message holds {MAX_MESSAGE_BYTES}")
    training.store(client, message.manifest)
    return Done(encoded)


def settings_of(cfg: config.Config, asked: Refit) -> config.DetectorConfig:
    """The entry of this detector that judges the series; raises `UserError` where there is none."""
    series = Series.of(asked.series)
    for each in cfg.engine.detectors:
        if each.name == asked.detector and Matcher.parse(each.match).matches(series):
            return each
    raise UserError(f"no entry of engine.detectors named {asked.detector} matches {asked.series}")


def packed(
    detector: type[BatchDetector],
    params: Mapping[str, Any],
    asked: Refit,
    history: History,
    seed: int,
    made: Artifact,
    report: Mapping[str, Any],
) -> ArtifactMessage:
    """The artifact with its manifest; the id is a hash of what it was made for and what it is."""
    payload = pack(made)
    digest = hashlib.sha256(payload).hexdigest()
    trained = (int(history.ts_ms[0]), int(history.ts_ms[-1]) + 1) if len(history.ts_ms) else (0, 0)
    name = f"{asked.detector}/{asked.series}/{trained}/{digest}"
    manifest = Manifest(
        artifact_id=hashlib.sha256(name.encode()).hexdigest()[:16],
        detector=asked.detector,
        version=detector.version,
        series=asked.series,
        trained_from_ms=trained[0],
        trained_to_ms=trained[1],
        seed=seed,
        sha256=digest,
        size=len(payload),
        params=dict(params),
        report={"trigger": str(asked.trigger), **report},
    )
    return ArtifactMessage(manifest, payload)


class Judged(NamedTuple):
    """What one artifact says of the newest history."""

    alerts: NDArray[np.bool_]  # for each sample
    events: list[AnomalyEvent]


def shadow(
    cfg: config.Config,
    asked: Refit,
    history: History,
    labelled: Spans,
    made: Artifact,
    serving: Artifact | None,
) -> dict[str, Any]:
    """How the new artifact would have done on the newest history, beside the one in use.

    ``agreement``: the share of samples on which both are above the threshold or both below.
    ``false_alarms``: anomalies outside labelled incidents. ``caught``: labelled incidents with an anomaly.
    """
    begin = np.searchsorted(history.ts_ms, asked.until_ms - cfg.trainer.shadow_ms)
    recent = History(history.ts_ms[begin:], history.values[begin:])
    inside = [span for span in labelled if span[1] >= asked.until_ms - cfg.trainer.shadow_ms]
    found = _judge(cfg, asked, recent, made)
    report = {"samples": len(recent.ts_ms), "labelled": len(inside), **_told("", found, inside)}
    if serving is not None:
        before = _judge(cfg, asked, recent, serving)
        agreement = float(np.mean(found.alerts == before.alerts)) if len(recent.ts_ms) else 1.0
        report |= {"agreement": round(agreement, 4), "serving": asked.serving}
        report |= _told("serving_", before, inside)
    return report


def _told(prefix: str, judged: Judged, labelled: Spans) -> dict[str, Any]:
    spans: dict[str, tuple[int, int]] = {}
    for event in judged.events:
        spans[event.anomaly_id] = (event.started_ms, event.ended_ms or event.detected_ms)
    caught = [any(_overlap(s, each) for s in spans.values()) for each in labelled]
    false = [not any(_overlap(s, each) for each in labelled) for s in spans.values()]
    return {f"{prefix}false_alarms": sum(false), f"{prefix}caught": sum(caught)}


def _overlap(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return one[0] <= other[1] and other[0] <= one[1]


def _judge(cfg: config.Config, asked: Refit, recent: History, artifact: Artifact) -> Judged:
    """The worker's engine with this detector alone."""
    mine = [msgspec.structs.replace(d, weight=1.0) for d in cfg.engine.detectors if d.name == asked.detector]
    engine = Engine(msgspec.structs.replace(cfg.engine, detectors=mine), config.Admission())
    alerts: list[NDArray[np.bool_]] = []
    events: list[AnomalyEvent] = []
    for part in (slice(0, 1), slice(1, None)):  # a series is there with its first sample
        ts_ms, values = recent.ts_ms[part], recent.values[part].reshape(-1)
        if not len(ts_ms):
            continue
        scored = engine.process(Samples([asked.series], np.zeros(len(ts_ms), np.int64), ts_ms, values))
        engine.adopt(asked.series, asked.detector, artifact)
        alerts.append(scored.score >= 1.0)
        events += scored.events
    return Judged(np.concatenate(alerts) if alerts else np.zeros(0, np.bool_), events)


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


def receive(stream: BinaryIO) -> bytes | None:
    """The next message, None at the end."""
    head = stream.read(4)
    return stream.read(int.from_bytes(head, "little")) if len(head) == 4 else None


def send(stream: BinaryIO, message: bytes) -> None:
    stream.write(len(message).to_bytes(4, "little") + message)
    stream.flush()


def main() -> None:
    """Work until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the trainer
    # A trainer that is killed takes its fits with it: one that hangs would stay for ever.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    while (message := receive(sys.stdin.buffer)) is not None:
        outcome = work(msgspec.msgpack.decode(message, type=Job))
        send(answers, msgspec.msgpack.encode(outcome))


if __name__ == "__main__":
    main()
