"""Which groups there are of the series at hand, and which series belongs to which."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from detectors.protocol import I64, State
from detectors.rows import grown
from detectors.series import series_id
from schemas.group import Grouping
from schemas.series import Series


class GroupNames:
    """The groups of the series at hand: a slot each from the first member to come to the last to go."""

    def __init__(self, grouping: Grouping) -> None:
        self._grouping = grouping
        self._texts: list[str] = []  # empty where a slot is free
        self._slot_of: dict[str, int] = {}
        self._members: list[int] = []  # how many
        self._of: NDArray[np.int32] = np.zeros(0, np.int32)  # by series: slot of its group from 1, 0 is none

    def __len__(self) -> int:
        return len(self._texts)

    def of(self, slots: I64) -> I64:
        """Groups of series, -1 where there is none."""
        return self._of[slots].astype(np.int64) - 1

    def slot(self, text: str) -> int | None:
        return self._slot_of.get(text)

    def text(self, slot: int) -> str:
        return self._texts[slot]

    def series(self, slot: int) -> Series:
        return Series.of(self._texts[slot])

    def series_id(self, slot: int) -> str:
        return series_id(self._texts[slot])

    def join(self, member: int, series: Series) -> int | None:
        """A series has come; the slot of its group."""
        self._of = grown(self._of, member + 1)
        text = self._grouping.of(series)
        if not text:
            return None
        slot = self._slot_of.get(text)
        if slot is None:
            slot = self._slot_of[text] = self._unused()
            self._texts[slot], self._members[slot] = text, 0
        self._members[slot] += 1
        self._of[member] = slot + 1
        return slot

    def leave(self, member: int) -> bool:
        """A series of a group has gone; whether it was the last one of it."""
        slot = int(self._of[member]) - 1
        self._of[member] = 0
        self._members[slot] -= 1
        return self._members[slot] == 0

    def free(self, slot: int) -> None:
        """Let another group have the slot."""
        del self._slot_of[self._texts[slot]]
        self._texts[slot] = ""

    def _unused(self) -> int:
        if len(self._slot_of) == len(self._texts):
            self._texts.append("")
            self._members.append(0)
            return len(self._texts) - 1
        return self._texts.index("")

    def snapshot(self) -> State:
        return {
            "texts": np.frombuffer(msgspec.msgpack.encode(self._texts), np.uint8).copy(),
            "of": self._of.copy(),
        }

    def load(self, state: Mapping[str, NDArray[Any]]) -> None:
        self._texts = msgspec.msgpack.decode(state["texts"].tobytes(), type=list[str])
        self._slot_of = {text: slot for slot, text in enumerate(self._texts) if text}
        self._of = state["of"].copy()
        self._members = np.bincount(self._of, minlength=len(self._texts) + 1)[1:].tolist()
