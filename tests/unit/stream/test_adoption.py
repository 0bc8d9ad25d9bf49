"""What the worker's side consumer takes from the topic, and what it refuses."""

import msgspec
import numpy as np
import pytest

from detectors.batch import History, pack, sha256, unpack
from detectors.isolation_forest import IsolationForestDetector
from detectors.protocol import Samples
from schemas import config
from schemas.artifact import ArtifactMessage, Manifest
from stream import metrics as m
from stream.kafka import TopicPartition
from stream.refresh.artifacts import KEPT, ArtifactStore, MissingArtifactError, key
from stream.worker import adoption
from stream.worker.adoption import Adopter, Desk
from stream.worker.pipeline import Pipeline

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


class Here:
    """Runs at once what an adopter gives to threads."""

    async def compute(self, function, *args):
        return function(*args)

    blocking = compute


class World:
    """A partition with a desk: each batch is a sample of some series, and adopts."""

    def __init__(self, desk: Desk) -> None:
        self.desk, self.pipeline = desk, Pipeline(CFG, CFG.inputs[0])
        self.adopter = Adopter(desk, TopicPartition("telemetry", 0), Here())
        desk.ready = True
        self._offset = 0

    async def batch(self, *series: str) -> list[str]:
        """The artifacts that it adopts."""
        self._offset += 1
        nothing = np.arange(len(series))
        times = np.full(len(series), self._offset * STEP_MS)
        self.pipeline.engine.process(Samples(series, nothing, times, np.ones(len(series))))
        return [entry.artifact for entry in await self.adopter.adopt(self.pipeline, self._offset)]


@pytest.fixture
def world(desk: Desk) -> World:
    return World(desk)


async def test_a_series_that_begins_after_its_model_gets_it_then_and_once(world: World):
    world.desk.want(message())
    assert await world.batch("other") == []
    assert await world.batch(SERIES) == ["a1"]
    assert await world.batch(SERIES) == []


async def test_a_batch_takes_few_of_many_models_and_the_others_follow_in_order(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(adoption, "ADOPTING_S", 0.0)
    names = [f"cpu{n}" for n in range(5)]
    await world.batch(*names)
    for n, name in enumerate(names):
        world.desk.want(message(n, series=name))
    # Series that come meanwhile begin nothing anew; that one has a model is seen once the others are through.
    assert [await world.batch(*names, f"new{n}") for n in range(4)] == [[f"a{n}"] for n in range(4)]
    world.desk.want(message(9, series="cpu0"))
    assert [await world.batch() for _ in range(3)] == [["a4"], ["a9"], []]


async def test_a_model_that_an_engine_refuses_is_not_offered_again(world: World):
    payload = pack(unpack(message().payload)._replace(facts={}))
    sound = message().manifest
    wrong = msgspec.structs.replace(sound, sha256=sha256(payload), size=len(payload))
    world.desk.want(ArtifactMessage(wrong, payload))
    assert await world.batch(SERIES) == []
    assert refused(world.desk, "unusable") == 1
    assert await world.batch(SERIES, "other") == []
    assert refused(world.desk, "unusable") == 1


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
