"""Canonical texts of series, checked and remembered."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from schemas.deadletter import Reason
from schemas.series import MAX_TEXT_BYTES, Series
from stream.worker.admission import RejectedError

REMEMBERED: Final = 200_000
"""Names kept by `Names` before it starts over, about 300 bytes each."""

# A brace in a metric name would make two different series one text; control characters break every reader.
_METRIC = re.compile(r"[^{}\x00-\x1f\x7f]+")
_LABEL = re.compile(r'[^=,{}"\\\x00-\x1f\x7f]+')
_labels = msgspec.json.Decoder(dict[str, str])


def canonical(metric: str, labels: Mapping[str, str]) -> str:
    """The canonical text; raises `RejectedError` for a name that no text can carry."""
    if not _METRIC.fullmatch(metric):
        raise RejectedError(
            Reason.BAD_SERIES, f"metric name {metric[:80]!r} is empty or has {{, }} or controls"
        )
    for name in labels:
        if not _LABEL.fullmatch(name):
            raise RejectedError(
                Reason.BAD_SERIES, f'label name {name[:80]!r} is empty or has = , {{ }} " or \\'
            )
    text = Series(metric, dict(labels)).text()
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise RejectedError(Reason.BAD_SERIES, "the name has a lone surrogate") from None
    if size > MAX_TEXT_BYTES:
        raise RejectedError(Reason.BAD_SERIES, f"the name has {size} bytes, more than {MAX_TEXT_BYTES}")
    return text


def parse(text: str) -> str:
    """The canonical text of a text that should be one; raises `RejectedError`."""
    try:
        series = Series.parse(text)
    except ValueError as error:
        raise RejectedError(Reason.BAD_SERIES, str(error)[:300]) from None
    return canonical(series.metric, series.labels)


class Names:
    """Canonical texts by metric name and the bytes of the labels, as they come in JSON."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, bytes], str] = {}
        self.get = self._known.get

    def learn(self, metric: str, labels: bytes) -> str:
        """The text of a pair that `get` does not know; raises `RejectedError`."""
        try:
            mapping = _labels.decode(labels)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RejectedError(Reason.BAD_SERIES, f"labels: {error}") from None
        text = canonical(metric, mapping)
        if len(self._known) >= REMEMBERED:
            self._known.clear()
        self._known[metric, labels] = text
        return text
