"""`docs/asyncapi.yaml`: the topics that other programs read and write, from the structs that define them."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec
import yaml

from schemas.config import Config
from schemas.control import Change, Label, Mute, Refresh, Unmute
from schemas.event import AnomalyEvent
from schemas.incident import Incident
from schemas.sample import Point

HEAD: Final = "# Written by `python -m stream.docs` from schemas/; do not edit.\n"

CLOUD_EVENT: Final = {
    "ce_specversion": "1.0",
    "ce_id": "event_id of the body",
    "ce_source": "/tocsin/TOPIC/PARTITION of the telemetry",
    "ce_type": "io.tocsin.anomaly.open, .update or .close",
    "ce_subject": "anomaly_id of the body",
    "ce_time": "when it was detected, in event time",
    "content-type": "application/json",
}
INCIDENT_EVENT: Final = CLOUD_EVENT | {
    "ce_source": "/tocsin/incidents",
    "ce_type": "io.tocsin.incident.open, .update or .close",
    "ce_subject": "incident_id of the body",
}
"""Headers of an event in the binary mode of CloudEvents for Kafka."""


class Channel(NamedTuple):
    """A topic, what Tocsin does with it, and its messages."""

    name: str
    topic: str
    action: str  # of Tocsin
    structs: tuple[type, ...]
    key: str
    headers: dict[str, str]


def channels(cfg: Config) -> list[Channel]:
    """Those with messages of JSON; the columnar ones are for Tocsin's own processes."""
    return [
        Channel("telemetry", cfg.inputs[0].topic, "receive", (Point,), "anything, the same for a series", {}),
        Channel(
            "anomalies", cfg.topics.anomalies.name, "send", (AnomalyEvent,), "series of the body", CLOUD_EVENT
        ),
        Channel(
            "incidents",
            cfg.topics.incidents.name,
            "send",
            (Incident,),
            "incident_id of the body",
            INCIDENT_EVENT,
        ),
        Channel(
            "control",
            cfg.topics.control.name,
            "receive",
            (Mute, Unmute, Label, Refresh),
            "mute_id, anomaly_id, or detector/series of the body",
            {},
        ),
        Channel("changes", cfg.topics.changes.name, "receive", (Change,), "anything", {}),
    ]


def page() -> str:
    """AsyncAPI 3.0, with the topics of the default configuration."""
    cfg = Config()
    found = channels(cfg)
    (_, schemas) = msgspec.json.schema_components(
        [struct for channel in found for struct in channel.structs],
        ref_template="#/components/schemas/{name}",
    )
    document = {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Tocsin",
            "version": "1",
            "description": "Read with isolation_level=read_committed. New fields may appear; none changes "
            "its meaning.",
        },
        "defaultContentType": "application/json",
        "servers": {"kafka": {"host": cfg.kafka.bootstrap_servers, "protocol": "kafka"}},
        "channels": {channel.name: _channel(channel) for channel in found},
        "operations": {
            f"{channel.action}_{channel.name}": {
                "action": channel.action,
                "channel": {"$ref": f"#/channels/{channel.name}"},
            }
            for channel in found
        },
        "components": {"schemas": schemas},
    }
    return HEAD + yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=110)


def _channel(channel: Channel) -> dict[str, Any]:
    messages = {struct.__name__: _message(channel, struct) for struct in channel.structs}
    return {"address": channel.topic, "messages": messages}


def _message(channel: Channel, struct: type) -> dict[str, Any]:
    message: dict[str, Any] = {
        "name": struct.__name__,
        "summary": (struct.__doc__ or "").split("\n", maxsplit=1)[0],
        "payload": {"$ref": f"#/components/schemas/{struct.__name__}"},
        "bindings": {"kafka": {"key": {"type": "string", "description": channel.key}}},
    }
    if channel.headers:
        properties = {name: {"type": "string", "description": text} for name, text in channel.headers.items()}
        message["headers"] = {"type": "object", "required": list(properties), "properties": properties}
    return message
