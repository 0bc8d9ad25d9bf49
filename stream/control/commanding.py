"""Commands on their way to `tocsin.control`, and what stands there: for the command line and the console."""

from __future__ import annotations

import asyncio
import getpass
import hashlib
import time
from collections import Counter, OrderedDict
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple, get_args

import msgspec

from schemas import config
from schemas.control import Change, Command, Label, Mute, Refresh, Unmute, Verdict
from stream import kafka, topics
from stream.control import muting
from stream.kafka.following import committed

TIMEOUT_S: Final = 30.0
"""For sending, and for reading the topic: shorter fails while a broker restarts."""

MOST_LABELS: Final = 100_000

MOST_KEYS: Final = 100_000
"""Of which the time of the newest command is remembered, some 200 bytes each."""

_decode = msgspec.json.Decoder(Command).decode
_encode = msgspec.json.Encoder().encode


class Verdicts:
    """How many anomalies have which verdict, by detector and policy; the newest verdict of each counts.

    Keeps the newest `MOST_LABELS`, some 300 bytes each.
    """

    def __init__(self) -> None:
        self._of: OrderedDict[str, Label] = OrderedDict()
        self.counts: Counter[tuple[str, str, str]] = Counter()
        """By detector, policy and verdict."""

    def put(self, label: Label) -> set[tuple[str, str, str]]:
        """Note a verdict; returns the places whose counts may have changed, all three verdicts of each."""
        before = self._of.pop(label.anomaly_id, None)
        self._of[label.anomaly_id] = label
        over = [before] if before is not None else []
        if len(self._of) > MOST_LABELS:
            over.append(self._of.popitem(last=False)[1])
        for each in over:
            self.counts.subtract(_places(each))
        self.counts.update(_places(label))
        seen = {place[:2] for each in [label, *over] for place in _places(each)}
        return {(*where, verdict) for where in seen for verdict in get_args(Verdict)}


def _places(label: Label) -> list[tuple[str, str, str]]:
    return [(detector, label.policy, label.verdict) for detector in label.detectors]


class Standing(NamedTuple):
    """A mute as it was set last, and when it was lifted (null while it was not)."""

    mute: Mute
    lifted_ms: int | None

    def holds(self, ts_ms: int) -> bool:
        return self.lifted_ms is None and any(start <= ts_ms < end for start, end in muting.spans(self.mute))

    def state(self, ts_ms: int) -> Literal["holds", "planned", "over", "lifted"]:
        if self.lifted_ms is not None:
            return "lifted"
        if self.holds(ts_ms):
            return "holds"
        return "planned" if self.next_ms(ts_ms) is not None else "over"

    def next_ms(self, ts_ms: int) -> int | None:
        """When it begins after this time; null where it does not."""
        if self.lifted_ms is not None:
            return None
        return next((start for start, _ in muting.spans(self.mute) if start > ts_ms), None)


def key(command: Command) -> bytes:
    """The newest command with a key is what holds."""
    match command:
        case Mute() | Unmute():
            return command.mute_id.encode()
        case Label():
            return command.anomaly_id.encode()
        case Refresh():
            return f"{command.detector}/{command.series}".encode()


class Newest:
    """Which commands hold, whatever the order in which they come: the latest of each key by ``at_ms``.

    Two of one time are told apart by ``command_id``, as in the views of ClickHouse. Remembers `MOST_KEYS`.
    """

    def __init__(self) -> None:
        self._of: OrderedDict[bytes, tuple[int, str]] = OrderedDict()

    def put(self, command: Command) -> bool:
        """Note a command; False for one that comes again, or after a later one."""
        name, rank = key(command), (command.at_ms, command.command_id)
        if rank <= self._of.get(name, (-1, "")):
            return False
        self._of[name] = rank
        self._of.move_to_end(name)
        if len(self._of) > MOST_KEYS:
            self._of.popitem(last=False)
        return True


def someone() -> str:
    """Who runs this program, for ``by``."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without a name for its user
        return ""


def now_ms() -> int:
    return time.time_ns() // 1_000_000


async def send(cfg: config.Config, commands: Sequence[Command]) -> None:
    """Send commands; returns once Kafka has them. Raises ``ValueError`` when one cannot be followed."""
    for each in commands:
        muting.check(each)
    await _send(cfg, cfg.topics.control.name, [(key(each), _encode(each)) for each in commands])


async def tell(cfg: config.Config, change: Change) -> None:
    """Send a change to `tocsin.changes`; the coordinator opens its mute. Raises as `send` does."""
    mute = of_change(change, cfg.changes)
    if mute is not None:
        muting.check(mute)
    await _send(cfg, cfg.topics.changes.name, [(change.change_id.encode(), _encode(change))])


async def _send(cfg: config.Config, topic: str, messages: Sequence[tuple[bytes, bytes]]) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        await topics.ensure(cfg)
        producer = kafka.producer(cfg.kafka)
        await producer.start()
        try:
            for name, value in messages:
                await producer.send_and_wait(topic, value, key=name)
        finally:
            await kafka.stop(producer)


async def standing(cfg: config.Config) -> list[Standing]:
    """The mutes on the topic, in the order in which they were set; what cannot be followed is left out."""
    async with asyncio.timeout(TIMEOUT_S):
        records = [each async for each in committed(cfg.kafka, cfg.topics.control.name)]
    found: dict[str, Standing] = {}
    newest = Newest()
    for record in records:
        try:
            command = _decode(record.value or b"")
            muting.check(command)
        except (msgspec.MsgspecError, ValueError):
            continue
        if not newest.put(command):
            continue
        if isinstance(command, Mute):
            found.pop(command.mute_id, None)
            found[command.mute_id] = Standing(command, None)
        elif isinstance(command, Unmute) and command.mute_id in found:
            found[command.mute_id] = found[command.mute_id]._replace(lifted_ms=command.at_ms)
    return list(found.values())


def of_change(change: Change, cfg: config.Changes) -> Mute | None:
    """The mute that a change opens, the same whenever it is told; None where it mutes nothing."""
    minutes = cfg.mute_minutes if change.mute_minutes is None else change.mute_minutes
    if not minutes:
        return None
    mute_id = f"change-{hashlib.sha256(change.change_id.encode()).hexdigest()[:16]}"
    return Mute(
        command_id=mute_id,
        at_ms=change.at_ms,
        by=change.by,
        why=f"{change.kind} {change.title}".strip(),
        mute_id=mute_id,
        matcher=selecting(change.labels),
        start_ms=change.at_ms,
        end_ms=change.at_ms + 60_000 * minutes,
        learn=cfg.learn,
        origin="change",
    )


def selecting(labels: dict[str, str]) -> str:
    """A matcher of every series with these labels."""
    pairs = []
    for name, value in sorted(labels.items()):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        pairs.append(f'{name}="{escaped}"')
    return "{" + ",".join(pairs) + "}"
