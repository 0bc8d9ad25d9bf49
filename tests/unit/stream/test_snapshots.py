"""Snapshots on a disk and in an object store: what is read is what was written, or is named and skipped."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from stream.kafka import TopicPartition
from stream.worker.snapshot_file import MAGIC, Fault, Header, Snapshot, SnapshotError, decode, encode
from stream.worker.snapshots import SnapshotStore

HERE = TopicPartition("telemetry", 3)


def snapshot(next_offset: int = 7, lineage: str = "abc", **changes: object) -> Snapshot:
    header = Header(
        topic="telemetry",
        partition=3,
        next_offset=next_offset,
        config_hash="c",
        lineage=lineage,
        learned_from=0,
    )
    rows = np.zeros(3, [("a", "<f4"), ("inner", "<f8", (2,))])
    rows["inner"] = 0.1
    state = {"rows": rows, "none": np.zeros((0, 4)), "flags": np.array([[True, False]])}
    return Snapshot(msgspec.structs.replace(header, **changes), state)


def data() -> bytearray:
    return bytearray(b"".join(encode(snapshot())))


def test_arrays_come_back_as_they_were_records_and_empty_ones_too() -> None:
    found = decode(data())
    for name, array in snapshot().state.items():
        assert found.state[name].dtype == array.dtype
        assert found.state[name].shape == array.shape
        assert found.state[name].tobytes() == array.tobytes()
    assert found.header.next_offset == 7


def test_objects_are_refused() -> None:
    with pytest.raises(ValueError, match="objects"):
        encode(snapshot()._replace(state={"x": np.array([object()])}))


def test_a_file_cut_anywhere_or_with_any_bit_turned_is_refused() -> None:
    seed = time.time_ns() % 100_000
    print("seed", seed)
    rng = np.random.default_rng(seed)
    whole = data()
    for size in range(len(whole)):
        with pytest.raises(SnapshotError):
            decode(whole[:size])
    for place in rng.integers(0, len(whole), 300).tolist():
        broken = bytearray(whole)
        broken[place] ^= 1 << int(rng.integers(8))
        with pytest.raises(SnapshotError):
            decode(broken)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda d: b"something else entirely, and long enough to be a file of ours", Fault.FOREIGN),
        (lambda d: MAGIC[:-1] + b"9" + bytes(d[len(MAGIC) :]), Fault.OTHER_FORMAT),
        (lambda d: bytes(d[:-1]), Fault.TRUNCATED),
        (lambda d: bytes(d[:-1]) + bytes([d[-1] ^ 1]), Fault.CORRUPT),
        (lambda d: b"".join(encode(snapshot(format=0))), Fault.OTHER_FORMAT),
        (lambda d: b"".join(encode(snapshot(config_hash="other"))), Fault.OTHER_CONFIG),
        (lambda d: b"".join(encode(snapshot(partition=4))), Fault.FOREIGN),
        (lambda d: b"".join(encode(snapshot(8))), Fault.FOREIGN),
    ],
)
def test_the_reason_for_skipping_is_named(
    tmp_path: Path, change: Callable[[bytearray], bytes], fault: Fault
) -> None:
    store = SnapshotStore(str(tmp_path))
    store.write(snapshot())
    (path,) = tmp_path.rglob("*.snapshot")
    path.write_bytes(change(data()))
    with pytest.raises(SnapshotError) as raised:
        store.read(HERE, store.find(HERE)[0], "c")
    assert raised.value.fault is fault


@pytest.mark.parametrize("remote", [False, True])
def test_two_of_the_newest_lineage_are_kept_and_the_newest_comes_first(
    tmp_path: Path, *, remote: bool
) -> None:
    store = SnapshotStore(f"memory://{tmp_path.name}" if remote else f"file://{tmp_path}")
    assert store.find(HERE) == []
    store.write(snapshot(9000, "older"))
    for offset in (10, 20, 30):
        store.write(snapshot(offset))
    assert [(f.next_offset, f.lineage) for f in store.find(HERE)] == [(30, "abc"), (20, "abc")]
    assert store.read(HERE, store.find(HERE)[0], "c").header.next_offset == 30


def test_after_an_offset_was_set_back_the_new_snapshots_are_kept_beside_those_beyond(tmp_path: Path) -> None:
    store = SnapshotStore(str(tmp_path))
    for offset in (100, 200, 10, 20, 30):
        store.write(snapshot(offset))
    assert [f.next_offset for f in store.find(HERE)] == [200, 100, 30, 20]
    for offset in (150, 250, 300):
        store.write(snapshot(offset))
    assert [f.next_offset for f in store.find(HERE)] == [300, 250]


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SnapshotStore(str(tmp_path))

    def full(_file: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="space"):
        store.write(snapshot())
    assert store.find(HERE) == []
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
