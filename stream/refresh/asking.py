"""Questions to the trainers and their answers, for a program that asks: the console."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Any, Final, Self

import msgspec
import structlog

from schemas import config
from schemas.find import FindTask, Found
from schemas.request import Answer, Cancel, Failure, Find, FoundOut, NotFound, Progress
from stream import kafka, topics
from stream.errors import UserError

log = structlog.get_logger(__name__)

FETCH_MS: Final = 500

_BEGUN: Final = 0.1
"""The share told when a trainer has begun: it cannot say how far a fit is."""

_decode = msgspec.msgpack.Decoder(Answer).decode
_encode = msgspec.msgpack.encode


class Asker:
    """Sends questions and waits for their answers; make it with `connect`.

    It reads every answer on the topic from now on and takes those to questions of its own, so several
    programs can ask at the same time.
    """

    def __init__(self, cfg: config.Config, producer: Any, consumer: Any) -> None:
        self._cfg, self._producer, self._consumer = cfg, producer, consumer
        self._waiting: dict[str, asyncio.Queue[Answer]] = {}
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def connect(cls, cfg: config.Config) -> Self:
        """Raises ``KafkaError`` when there is no broker."""
        await topics.ensure(cfg)
        producer, consumer = kafka.producer(cfg.kafka), kafka.consumer(cfg.kafka)
        try:
            await producer.start()
            await consumer.start()
            await _begin(cfg, consumer)
        except BaseException:
            await kafka.stop(consumer, producer)
            raise
        return cls(cfg, producer, consumer)

    async def find(self, task: FindTask, progress: Callable[[float], None]) -> Found:
        """What a model finds; raises `UserError` with a sentence when it finds nothing out.

        Cancelling gives the work up, at the trainer too.
        """
        request_id = secrets.token_hex(12)
        answers = self._waiting[request_id] = asyncio.Queue()
        try:
            asked = Find(
                request_id=request_id,
                reply_to=self._cfg.topics.replies.name,
                task=task,
                deadline_ms=self._cfg.console.find_deadline_ms,
            )
            await self._send(request_id, _encode(asked))
            return await self._answered(answers, progress)
        except asyncio.CancelledError:
            await asyncio.shield(self._send(request_id, _encode(Cancel(request_id=request_id))))
            raise
        finally:
            del self._waiting[request_id]

    async def close(self) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        await kafka.stop(self._consumer, self._producer)

    async def _send(self, request_id: str, message: bytes) -> None:
        topic = self._cfg.topics.requests.name
        await self._producer.send_and_wait(topic, message, key=request_id.encode())

    @staticmethod
    async def _answered(answers: asyncio.Queue[Answer], progress: Callable[[float], None]) -> Found:
        while True:
            answer = await answers.get()
            if isinstance(answer, FoundOut):
                return answer.found
            if isinstance(answer, NotFound):
                if answer.reason == Failure.DEADLINE:
                    raise TimeoutError
                raise UserError(answer.text)
            if isinstance(answer, Progress):
                progress(_BEGUN)

    async def _read(self) -> None:
        while True:
            for records in (await self._consumer.getmany(timeout_ms=FETCH_MS)).values():
                for record in records:
                    self._take(record)

    def _take(self, record: kafka.Record) -> None:
        answers = self._waiting.get((record.key or b"").decode(errors="replace"))
        if answers is None:
            return  # to another program, or given up
        try:
            answers.put_nowait(_decode(record.value or b""))
        except msgspec.MsgspecError as error:
            log.warning("answer skipped: not one of ours", offset=record.offset, cause=str(error))


async def _begin(cfg: config.Config, consumer: Any) -> None:
    """Read all answers from now on."""
    async with kafka.Admin.connect(cfg.kafka) as admin:
        partitions = await admin.partitions(cfg.topics.replies.name)
    consumer.assign(partitions)
    for partition, end in (await consumer.end_offsets(partitions)).items():
        consumer.seek(partition, end)
