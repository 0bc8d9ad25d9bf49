"""`tocsin produce`: files into a telemetry topic, each series always in the same partition."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Literal, NamedTuple

import numpy as np

from detectors.protocol import Samples
from schemas import config
from schemas.series import Series
from stream import kafka
from stream.errors import UserError
from stream.files.sources import Chunk, Lines
from stream.formats.columnar import encode_columnar
from stream.formats.json_point import encode_point
from stream.kafka.partitioner import partition_of

Encoding = Literal["json", "columnar"]

CHUNK: Final = 10_000
"""Samples read and sent at once; a columnar message then has at most 200 kB of columns."""

DICTIONARY_NAMES: Final = 4096
"""Names in a columnar message before the partition begins a new dictionary: each message repeats them."""

PACE_PER_S: Final = 20
"""With a rate, chunks go out about this often: more costs messages, less makes the flow jerky."""

_MOST_UNCONFIRMED: Final = 1000
"""Messages on their way before we wait for the oldest: bounds memory, far above what is in flight."""


class Sent(NamedTuple):
    """What was sent; ``gaps`` are empty values, which JSON points leave out and columns carry as NaN."""

    samples: int = 0
    messages: int = 0
    gaps: int = 0


def chunk_size(rate: float | None) -> int:
    """How many samples to read at once for this rate (samples a second)."""
    return CHUNK if rate is None else max(1, min(CHUNK, round(rate / PACE_PER_S)))


async def produce(
    cfg: config.Kafka,
    topic: str,
    chunks: Iterable[Chunk],
    *,
    encoding: Encoding = "json",
    rate: float | None = None,
    key_by: Sequence[str] = (),
    progress: Callable[[Sent], None] = lambda _: None,
) -> Sent:
    """Send all chunks and wait until the broker has them; ``rate`` is in samples a second.

    Series with the same values of the labels ``key_by`` land in one partition; without, and for a series that
    lacks one of them, its name decides.

    ``progress`` hears of the total so far. Raises `UserError` when there is no broker or no such topic.
    """
    partitions = await _partitions(cfg, topic)
    client = kafka.producer(cfg, linger_ms=20, max_batch_size=kafka.BATCH_BYTES)
    await client.start()
    try:
        sender = Sender(client, topic, partitions, encoding, key_by)
        began = asyncio.get_running_loop().time()
        for chunk in chunks:
            if rate is not None:
                due = began + sender.sent.samples / rate
                await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
            await sender.send(chunk)
            progress(sender.sent)
        await sender.confirm()
        return sender.sent
    finally:
        await client.stop()


async def _partitions(cfg: config.Kafka, topic: str) -> int:
    try:
        async with kafka.Admin.connect(cfg) as admin:
            topics = await admin.topics()
    except (kafka.KafkaError, TimeoutError) as error:
        raise no_broker(cfg) from error
    if topic not in topics:
        raise UserError(
            f"Kafka has no topic {topic!r}: `tocsin topics create` makes it, --topic names another"
        )
    return topics[topic]


def no_broker(cfg: config.Kafka) -> UserError:
    return UserError(
        f"no Kafka answers at {cfg.bootstrap_servers}: "
        "start one with `tocsin up`, or set kafka.bootstrap_servers"
    )


class _Dictionary:
    """The series of one partition in the order in which they came; columnar messages name them by place."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._places: dict[str, int] = {}

    def places(self, names: list[str]) -> list[int]:
        if len(self.names) + len(names) > DICTIONARY_NAMES:
            self.names, self._places = [], {}
        for name in names:
            if name not in self._places:
                self._places[name] = len(self.names)
                self.names.append(name)
        return [self._places[name] for name in names]


class Sender:
    """Turns chunks into messages of the right partition."""

    def __init__(
        self, client: Any, topic: str, partitions: int, encoding: Encoding, key_by: Sequence[str] = ()
    ) -> None:
        self._client, self._topic, self._count, self._encoding = client, topic, partitions, encoding
        self._key_by = key_by
        self._partition: dict[bytes, int] = {}
        self._keys: dict[str, bytes] = {}
        self._labels: dict[str, Series] = {}
        self._dictionaries = [_Dictionary() for _ in range(partitions)]
        self._unconfirmed: list[asyncio.Future[Any]] = []
        self.sent = Sent()

    async def send(self, chunk: Chunk) -> None:
        """Hand a chunk over; waits while the broker is behind."""
        if isinstance(chunk, Lines):
            await self._lines(chunk)
        elif self._encoding == "columnar":
            await self._columns(chunk)
        else:
            await self._points(chunk)

    async def confirm(self) -> None:
        """Wait until the broker has all that was sent; raises the first failure."""
        waiting, self._unconfirmed = self._unconfirmed, []
        for delivery in waiting:
            await delivery

    async def _columns(self, chunk: Samples) -> None:
        place = np.array([self._place(self._key(name)) for name in chunk.series], np.int64)
        partition = place[chunk.series_index]
        for number in np.unique(partition).tolist():
            rows = np.flatnonzero(partition == number)
            used, inverse = np.unique(chunk.series_index[rows], return_inverse=True)
            dictionary = self._dictionaries[number]
            index = np.array(dictionary.places([chunk.series[i] for i in used.tolist()]), np.int64)[inverse]
            value = encode_columnar(dictionary.names, index, chunk.ts_ms[rows], chunk.values[rows])
            await self._deliver(await self._client.send(self._topic, value=value, partition=number))
        self._count_sent(len(chunk.ts_ms), len(np.unique(partition)), int(np.isnan(chunk.values).sum()))

    async def _points(self, chunk: Samples) -> None:
        messages: dict[int, list[tuple[bytes, bytes]]] = {}
        keys = [self._key(name) for name in chunk.series]
        rows = zip(chunk.series_index.tolist(), chunk.ts_ms.tolist(), chunk.values.tolist(), strict=True)
        gaps = 0
        for i, ts_ms, value in rows:
            if math.isnan(value):
                gaps += 1
                continue
            series = self._series(chunk.series[i])
            message = encode_point(series.metric, series.labels, ts_ms, value)
            messages.setdefault(self._place(keys[i]), []).append((keys[i], message))
        for number, pairs in messages.items():
            await self._batches(number, pairs)
        sent = len(chunk.ts_ms) - gaps
        self._count_sent(sent, sent, gaps)

    async def _lines(self, chunk: Lines) -> None:
        # One message for each partition and in the order of the file: minutes of applications that share a
        # partition must not overtake each other.
        rows: dict[int, list[bytes]] = {}
        for key, row in zip(chunk.keys, chunk.rows, strict=True):
            rows.setdefault(self._place(key), []).append(row)
        for number, lines in rows.items():
            value = b"\n".join(lines)
            await self._deliver(await self._client.send(self._topic, value=value, partition=number))
        self._count_sent(len(chunk.rows), len(rows), 0)

    async def _batches(self, partition: int, messages: list[tuple[bytes, bytes]]) -> None:
        """Record batches made by hand: an order of magnitude cheaper than a call of ``send`` a message."""
        batch = self._client.create_batch()
        for key, value in messages:
            if batch.append(key=key, value=value, timestamp=None) is None:
                await self._deliver(await self._client.send_batch(batch, self._topic, partition=partition))
                batch = self._client.create_batch()
                batch.append(key=key, value=value, timestamp=None)
        await self._deliver(await self._client.send_batch(batch, self._topic, partition=partition))

    async def _deliver(self, delivery: asyncio.Future[Any]) -> None:
        self._unconfirmed.append(delivery)
        if len(self._unconfirmed) > _MOST_UNCONFIRMED:
            oldest, self._unconfirmed = self._unconfirmed[:100], self._unconfirmed[100:]
            for each in oldest:
                await each

    def _place(self, key: bytes) -> int:
        found = self._partition.get(key)
        if found is None:
            found = self._partition[key] = partition_of(key, self._count)
        return found

    def _key(self, text: str) -> bytes:
        """What decides the partition of a series, and is the key of its points."""
        found = self._keys.get(text)
        if found is None:
            labels = self._series(text).labels
            shared = {label: labels.get(label, "") for label in self._key_by}
            grouped = shared and all(shared.values())
            found = self._keys[text] = (Series("", shared).text() if grouped else text).encode()
        return found

    def _series(self, text: str) -> Series:
        found = self._labels.get(text)
        if found is None:
            found = self._labels[text] = Series.parse(text)
        return found

    def _count_sent(self, samples: int, messages: int, gaps: int) -> None:
        self.sent = Sent(self.sent.samples + samples, self.sent.messages + messages, self.sent.gaps + gaps)
