"""What the worker's side consumer takes from the topic, and what it refuses."""

import numpy as np
import pytest

from detectors.batch import History, pack, sha256
from detectors.engine import Engine
from detectors.isolation_forest import IsolationForestDetector
from detectors.protocol import Samples
from schemas import config
from schemas.artifact import ArtifactMessage, Manifest
from stream import metrics as m
from stream.refresh.artifacts import KEPT, ArtifactStore, MissingArtifactError, key
from stream.worker.adoption import Desk

STEP_MS = 300_000
SERIES = "cpu"
CFG = config.Config(
    engine=config.Engine(detectors=[config.DetectorConfig(name="iforest", params={"n_estimators": 5})])
)


VERSION = IsolationForestDetector.version


def message(trained_to_ms: int = 1, version: int = VERSION, series: str = SERIES) -> ArtifactMessage:
    values = np.sin(np.arange(300) / 20) + np.arange(300) % 7 / 10
    history = History(np.arange(300) * STEP_MS, values.reshape(-1, 1))
    payload = pack(IsolationForestDetector.fit({"n_estimators": 5}, history, 1))
    manifest = Manifest(
        artifact_id=f"a{trained_to_ms}",
        detector="iforest",
        version=version,
        series=series,
        trained_from_ms=0,
        trained_to_ms=trained_to_ms,
        seed=1,
        sha256=sha256(payload),
        size=len(payload),
    )
    return ArtifactMessage(manifest, payload)


@pytest.fixture
def desk(tmp_path) -> Desk:
    return Desk(CFG, ArtifactStore(str(tmp_path)), m.Metrics("worker"))


def refused(desk: Desk, reason: str) -> float | None:
    return desk._metrics.registry.get_sample_value("tocsin_artifacts_refused_total", {"reason": reason})


def test_a_flipped_bit_is_refused_counted_and_named(desk: Desk, capsys: pytest.CaptureFixture[str]):
    sound = message()
    payload = bytearray(sound.payload)
    payload[-3] ^= 1
    damaged = ArtifactMessage(sound.manifest, bytes(payload))
    assert desk.take(key(sound.manifest, serving=True), damaged.encode()) is None
    assert refused(desk, "damaged") == 1
    assert "iforest/cpu" in capsys.readouterr().out
    assert desk.take(key(sound.manifest, serving=True), sound.encode()) == sound


@pytest.mark.parametrize(
    "wrong",
    [message(version=VERSION + 1), message(series="other")],
    ids=["another version", "another series"],
)
def test_an_artifact_of_something_else_is_refused(desk: Desk, wrong: ArtifactMessage):
    assert desk.take(b"iforest/cpu", wrong.encode()) is None
    assert refused(desk, "version") == 1


def test_a_candidate_is_not_adopted(desk: Desk):
    candidate = message()
    assert desk.take(key(candidate.manifest, serving=False), candidate.encode()) is None


def test_a_series_that_begins_after_its_model_is_due_then_and_once(desk: Desk):
    engine = Engine(CFG.engine, CFG.admission)
    wanted = message()
    desk.want(wanted)
    assert desk.due(engine) == []
    engine.process(Samples([SERIES], np.zeros(1, np.int64), np.zeros(1, np.int64), np.ones(1)))
    (due,) = desk.due(engine)
    assert due.artifact_id == wanted.manifest.artifact_id
    from detectors.batch import unpack

    engine.adopt(due.series, due.detector, unpack(wanted.payload), due.artifact_id)
    assert desk.due(engine) == []


def test_the_store_keeps_the_newest_and_says_what_is_missing(tmp_path):
    store = ArtifactStore(str(tmp_path))
    for number in range(KEPT + 2):
        store.put(message(number))
    assert [each.trained_to_ms for each in store.find("iforest", SERIES)] == list(range(KEPT + 1, 1, -1))
    assert store.get("iforest", SERIES, f"a{KEPT}") == message(KEPT)
    with pytest.raises(MissingArtifactError):
        store.get("iforest", SERIES, "a0")


def test_a_damaged_object_in_the_store_counts_as_missing(tmp_path):
    store = ArtifactStore(str(tmp_path))
    store.put(message(5))
    (found,) = tmp_path.rglob("*.artifact")
    found.write_bytes(found.read_bytes()[:-10])
    with pytest.raises(MissingArtifactError):
        store.get("iforest", SERIES, "a5")
