"""A fault of a whole service in real telemetry, by all parts on real engines: one incident, told once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest

from schemas import config
from schemas.control import Mute
from schemas.journal import Muted
from stream import observe
from stream.control import commanding
from stream.files.labelled import read_files
from stream.files.sources import Columns
from stream.formats.columnar import encode_columnar
from stream.formats.names import canonical
from stream.incidents.notify import Relay
from stream.kafka import TopicPartition
from stream.local.monitoring import Monitoring
from stream.refresh.coordinator import Coordinator
from stream.store.sink import SinkLoop
from stream.worker import journal
from tests.integration.conftest import Kit, Sent
from tests.integration.test_alerts import alerts
from tests.integration.test_incidents import incident_kit  # noqa: F401  # a fixture
from tests.integration.test_notify import eventually
from tests.support import ClickHouseAddress, Receiver, running
from tests.unit.stream.test_service_fault import CHANGES, LASTS, ROW

BEFORE, AFTER = 2880, 32
"""Minutes of the month around the fault that are sent."""

STEP = 4
"""Minutes sent at a time: an anomaly closes after as many quiet samples."""

SERVICES = ("redlab", "copy")


class Telemetry:
    """A part of the RedLab month with a fault in it, by minutes from its begin; the copy is the same."""

    def __init__(self) -> None:
        found = {s.name: s for s in read_files(["examples/redlab/telemetry.csv.gz"], Columns(), None, None)}
        part = slice(ROW - BEFORE, ROW + LASTS + AFTER)
        self.values = np.column_stack([found[name].values for name in CHANGES])[part]
        self.values[BEFORE : BEFORE + LASTS] *= list(CHANGES.values())
        self.ts_ms = found["error"].ts_ms[part]

    def __len__(self) -> int:
        return len(self.ts_ms)

    def messages(self, first: int, end: int) -> list[Sent]:
        """These minutes: one columnar message for each metric, which has a partition of its own."""
        index = np.tile(np.arange(len(SERVICES)), end - first)
        ts_ms, values = (np.repeat(a[first:end], len(SERVICES), axis=0) for a in (self.ts_ms, self.values))
        return [
            Sent(
                encode_columnar(
                    [canonical(m, {"service": s}) for s in SERVICES], index, ts_ms, values[:, number]
                ),
                number,
            )
            for number, m in enumerate(CHANGES)
        ]


class Stack(NamedTuple):
    """All the parts, and where they are asked."""

    kit: Kit
    worker: str
    coordinator: str
    monitoring: Monitoring
    telemetry: Telemetry

    async def replay(self, first: int, end: int) -> None:
        """Step by step until all is scored and grouped: live, partitions are in step."""
        for begin in range(first, end, STEP):
            until = min(begin + STEP, end)
            await self.kit.send(self.telemetry.messages(begin, until))
            await self.settled(until)

    async def settled(self, minutes: int) -> None:
        samples = minutes * len(SERVICES) * len(CHANGES)

        def done() -> bool:
            scored = observe.total(self.worker, "tocsin_samples_total") >= samples
            grouped = observe.total(self.coordinator, "tocsin_incident_anomaly_events_total")
            return scored and grouped >= observe.total(self.worker, "tocsin_anomaly_events_total")

        await eventually(done)

    async def muted(self, first: int) -> int:
        """Send samples until every partition has the mute: it takes effect at the end of a batch."""
        cfg = self.kit.cfg
        places = [TopicPartition(cfg.inputs[0].topic, number) for number in range(len(CHANGES))]
        async with asyncio.timeout(60):
            while True:
                await self.replay(first, first := first + 2)
                entries = [await journal.read(cfg, place) for place in places]
                if all(any(isinstance(each, Muted) for each in found) for found in entries):
                    return first

    def open_incidents(self) -> list[str]:
        """As Prometheus has them."""
        query = urllib.parse.urlencode({"query": "tocsin_open_incident_peak_score"})
        url = f"{self.monitoring.prometheus_url}/api/v1/query?{query}"
        with urllib.request.urlopen(url, timeout=10) as reply:
            return [each["metric"]["incident_id"] for each in json.load(reply)["data"]["result"]]


@contextlib.asynccontextmanager
async def everything(cfg: config.Config, folder: Path, alerted: Receiver) -> AsyncIterator[Stack]:
    kit = Kit(cfg)
    async with (
        running(Relay(cfg)) as relay,
        running(SinkLoop(cfg)) as sink,
        running(Coordinator(cfg)) as coordinator,
        kit.worker() as worker,
    ):
        processes = {"worker": worker, "sink": sink, "coordinator": coordinator, "notify": relay}
        urls = {name: each.metrics_url for name, each in processes.items()}
        monitoring = Monitoring(folder, urls, alerted.url, interval="1s", keep_firing_for="1s")
        await asyncio.to_thread(monitoring.start)
        try:
            yield Stack(kit, worker.metrics_url, coordinator.metrics_url, monitoring, Telemetry())
        finally:
            await asyncio.to_thread(monitoring.stop)


def configured(kit: Kit, clickhouse: ClickHouseAddress, receiver: Receiver) -> config.Config:
    target = config.NotifyTarget(name="pager", url=receiver.url, what="incidents", updates=False)
    group = kit.cfg.worker.group_id
    return msgspec.structs.replace(
        kit.cfg,
        inputs=[msgspec.structs.replace(kit.cfg.inputs[0], format="columnar")],
        # Nobody is to succeed the only coordinator, however busy the machine is.
        incidents=msgspec.structs.replace(kit.cfg.incidents, session_timeout_ms=30_000),
        notify=config.Notify(group_id=f"{group}-notify", targets=[target]),
        clickhouse=config.ClickHouse(
            host=clickhouse.host, port=clickhouse.port, database=clickhouse.database
        ),
        sink=config.Sink(group_id=f"{group}-sink", batch_interval_ms=200),
        metrics=config.Metrics(worker_port=0, coordinator_port=0, notify_port=0, sink_port=0),
    )


@pytest.mark.slow
async def test_a_fault_is_one_incident_and_one_notification_and_a_muted_copy_none(
    incident_kit: Kit,  # noqa: F811
    clickhouse: ClickHouseAddress,
    receiver: Receiver,
    tmp_path: Path,
) -> None:
    cfg = configured(incident_kit, clickhouse, receiver)
    with contextlib.closing(Receiver()) as alerted:
        async with everything(cfg, tmp_path, alerted) as stack:
            ts_ms = stack.telemetry.ts_ms
            start_ms, end_ms = int(ts_ms[BEFORE - 60]), int(ts_ms[-1])
            mute = Mute(
                command_id="c", at_ms=start_ms, mute_id="m", matcher='{service="copy"}', start_ms=start_ms,
                end_ms=end_ms + 1,
            )  # fmt: skip
            await commanding.send(cfg, [mute])
            await stack.kit.send(stack.telemetry.messages(0, BEFORE - 100))
            await stack.settled(BEFORE - 100)
            sent_to = await stack.muted(BEFORE - 100)
            assert sent_to < BEFORE - 60
            await stack.replay(sent_to, BEFORE + LASTS // 2)

            fired = await eventually(lambda: alerts(alerted, "TocsinIncident", "firing"))
            (incident_id,) = {each["labels"]["incident_id"] for each in fired}
            assert {each["labels"]["service"] for each in fired} == {"redlab"}
            assert stack.open_incidents() == [incident_id]

            await stack.replay(BEFORE + LASTS // 2, len(stack.telemetry))
            resolved = await eventually(lambda: alerts(alerted, "TocsinIncident", "resolved"))
            assert {each["labels"]["incident_id"] for each in resolved} == {incident_id}
            assert not stack.open_incidents()

            events = await stack.kit.events(2 * 2 * len(CHANGES), quiet_s=0.5)
            during = [each for each in events if start_ms <= each.started_ms]
            for service, muted_by in (("redlab", None), ("copy", "m")):
                mine = [each for each in during if each.labels["service"] == service]
                assert {each.metric for each in mine} == set(CHANGES)
                assert {each.muted_by for each in mine} == {muted_by}

            def told() -> list[Any]:
                bodies = [body["incident"] for _, body in receiver.taken]
                return [each for each in bodies if start_ms <= each["started_ms"]]

            await eventually(lambda: [each for each in told() if each["status"] == "close"])
            rows = "incidents_latest WHERE merged_into IS NULL AND status = 'close' AND length(members) = 4"
            await eventually(lambda: observe.count(cfg.clickhouse, "count()", rows) == 1)
    assert [(each["status"], each["incident_id"]) for each in told()] == [
        ("open", incident_id), ("close", incident_id),
    ]  # fmt: skip
    last = told()[-1]
    assert last["labels"] == {"service": "redlab"}
    assert len(last["members"]) == len(CHANGES)
    assert {member["metric"]: member["direction"] for member in last["members"]} == {
        "web_response": "above", "throughput": "below", "apdex": "below", "error": "above",
    }  # fmt: skip
