"""When which series gets a new model: the coordinator's memory, without I/O and without a clock of its own.

Time is event time, the newest sample of each series, so that a replayed month asks for what a month would.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas import config
from schemas.control import Command, Label, Refresh
from schemas.group import Grouping
from schemas.matcher import Matcher
from schemas.request import Failed, Fitted, Trigger
from schemas.series import Series

MAX_SERIES: Final = 200_000
"""Series remembered, some 400 bytes each; further ones get no model. Where drift is watched it is 5 KB more
for ADWIN and 1 KB for Page-Hinkley.
"""

MAX_DOUBLINGS: Final = 10
"""Of the pause after failures: beyond it a model would never be tried again."""

RESIDUAL_LIMIT: Final = {"adwin": 10.0, "page_hinkley": 1.0}
"""In widths of the band; what lies beyond is an anomaly and not a drift. Page-Hinkley adds up what it sees,
so that a single sample must stay far below its threshold.
"""


class Model:
    """A series and a rule."""

    def __init__(self, rule: config.RefreshRule) -> None:
        self.rule = rule
        self.artifact_id = ""
        self.fitted_ms: int | None = None  # newest sample that a model has been fitted on
        self.failures = 0
        self.not_before_ms = 0
        self.request_id = ""  # the one that has not been answered
        self.asked_s = 0.0
        self.wish: Trigger | None = None  # a reason that does not wait for the age


class Watched:
    """A series or group that has models, or a member of such a group."""

    def __init__(self, models: dict[str, Model], groups: Sequence[Watched], first_ms: int) -> None:
        self.models = models
        self.first_ms = self.last_ms = first_ms
        drifting = [model for each in (models, *(g.models for g in groups)) for model in each.values()]
        self.on_drift = [model for model in drifting if model.rule.on_drift]
        """Models that a drift of this series makes old."""
        self.drift = {kind: _detector(kind) for kind in sorted({m.rule.drift for m in self.on_drift})}
        """What finds a drift of the residual, by the name that rules have for it."""

    def drifted(self, kind: str) -> None:
        """The models whose rules ask this detector are to be fitted anew."""
        for model in self.on_drift:
            if model.rule.drift == kind and model.fitted_ms is not None:
                model.wish = Trigger.DRIFT


class Due(NamedTuple):
    """A refit to be asked for."""

    series: str
    model: Model
    from_ms: int
    until_ms: int
    trigger: Trigger


class Timetable:
    """Fed with what the scores say; asked for what is due."""

    def __init__(self, cfg: config.Refresh, groups: Sequence[config.Group] = ()) -> None:
        self._cfg = cfg
        self._rules = [(rule, Matcher.parse(rule.match)) for rule in cfg.rules]
        self._groupings = [Grouping(each) for each in groups]
        self._watched: dict[str, Watched | None] = {}  # None: no rule matches
        self._groups_of: dict[str, list[str]] = {}  # of series that have any
        self.clock_ms = 0
        self.late = 0  # refits that the last look found due, and had no room for

    def saw(self, series: str, first_ms: int, last_ms: int) -> Watched | None:
        """A series has samples from and to these times, and so have the groups that it belongs to."""
        if series not in self._watched:
            if len(self._watched) >= MAX_SERIES:
                return None
            parsed = Series.of(series)
            groups = [group for each in self._groupings if (group := each.of(parsed))]
            if groups:
                self._groups_of[series] = groups
            for group in groups:
                self._watch(group, first_ms)
            self._watch(series, first_ms, groups)
        for group in self._groups_of.get(series, ()):
            self._seen(group, first_ms, last_ms)
        self.clock_ms = max(self.clock_ms, last_ms)
        return self._seen(series, first_ms, last_ms)

    def _watch(self, text: str, first_ms: int, groups: Sequence[str] = ()) -> None:
        """A series or group that was not known gets the models of its rules."""
        if text not in self._watched:
            models = self._models(text)
            mine = [each for group in groups if (each := self._watched[group]) is not None]
            self._watched[text] = Watched(models, mine, first_ms) if models or mine else None

    def _seen(self, text: str, first_ms: int, last_ms: int) -> Watched | None:
        watched = self._watched[text]
        if watched is not None:
            watched.first_ms = min(watched.first_ms, first_ms)
            watched.last_ms = max(watched.last_ms, last_ms)
        return watched

    def residuals(self, watched: Watched, residuals: NDArray[np.float64]) -> None:
        """Residuals in widths of the band, in order; a drift among them is a reason for new models.

        Also for those of its groups, which have no residuals.
        """
        for kind, detector in watched.drift.items():
            for residual in residuals.clip(-RESIDUAL_LIMIT[kind], RESIDUAL_LIMIT[kind]).tolist():
                detector.update(residual)
                if detector.drift_detected:
                    watched.drifted(kind)

    def told(self, command: Command) -> None:
        """A person asks for models, or says what an anomaly was, which models may have learned."""
        if isinstance(command, Refresh):
            matcher, trigger, detector = Matcher.parse(command.series), Trigger.PERSON, command.detector
            found = [
                w for text, w in self._watched.items() if w is not None and matcher.matches(Series.of(text))
            ]
        elif isinstance(command, Label):
            concerned = [command.series, *self._groups_of.get(command.series, ())]
            found = [w for text in concerned if (w := self._watched.get(text)) is not None]
            trigger, detector = Trigger.LABEL, ""
        else:
            return
        for watched in found:
            for name, model in watched.models.items():
                if detector in {"", name} and (trigger is Trigger.PERSON or model.fitted_ms is not None):
                    model.wish = trigger

    def serves(self, detector: str, series: str, artifact_id: str, fitted_ms: int) -> None:
        """An artifact was found on the topic."""
        model = self._model(detector, series, fitted_ms)
        if model is not None:
            model.artifact_id = artifact_id
            model.fitted_ms = max(model.fitted_ms or 0, fitted_ms)

    def fitted(self, answer: Fitted) -> None:
        model = self._model(answer.detector, answer.series, answer.trained_to_ms)
        if model is None:
            return
        model.request_id, model.failures, model.not_before_ms = "", 0, 0
        model.fitted_ms = max(model.fitted_ms or 0, answer.trained_to_ms)
        if answer.adopt:
            model.artifact_id = answer.artifact_id

    def failed(self, answer: Failed) -> None:
        model = self._model(answer.detector, answer.series, 0)
        if model is None or model.request_id != answer.request_id:
            return
        pause_ms = self._cfg.backoff_ms * 2 ** min(model.failures, MAX_DOUBLINGS)
        watched = self._watched[answer.series]
        model.request_id = ""
        model.failures += 1
        model.not_before_ms = (watched.last_ms if watched is not None else self.clock_ms) + pause_ms

    def due(self, now_s: float) -> list[Due]:
        """What to ask for now, the most urgent first; ``now_s`` is monotonic, to give up on answers that
        never come. What is beyond `refresh.max_waiting` is told by the next call that finds room.
        """
        found, waiting = list[Due](), 0
        for series, watched, model in self._all():
            if self._waits(model, now_s):
                waiting += 1
            elif (trigger := self._trigger(watched, model)) is not None:
                until_ms = watched.last_ms + 1
                found.append(Due(series, model, until_ms - model.rule.history_ms, until_ms, trigger))
        now = heapq.nsmallest(max(0, self._cfg.max_waiting - waiting), found, _urgency)
        self.late = len(found) - len(now)
        return now

    def asked(self, due: Due, request_id: str, now_s: float) -> None:
        due.model.request_id, due.model.asked_s, due.model.wish = request_id, now_s, None

    def waiting(self) -> int:
        return sum(bool(model.request_id) for *_, model in self._all())

    def _all(self) -> Iterator[tuple[str, Watched, Model]]:
        for series, watched in self._watched.items():
            if watched is not None:
                for model in watched.models.values():
                    yield series, watched, model

    @staticmethod
    def _waits(model: Model, now_s: float) -> bool:
        """Beyond twice the deadline and a minute the request is lost, or its trainers are: ask again."""
        patience_s = 2 * model.rule.deadline_ms / 1000 + 60
        return bool(model.request_id) and now_s - model.asked_s < patience_s

    @staticmethod
    def _trigger(watched: Watched, model: Model) -> Trigger | None:
        if watched.last_ms < model.not_before_ms:
            return None
        if model.wish is not None:
            return model.wish
        if model.fitted_ms is None:
            long_enough = watched.last_ms - watched.first_ms >= model.rule.min_history_ms
            return Trigger.HISTORY if long_enough else None
        return Trigger.AGE if watched.last_ms - model.fitted_ms >= model.rule.refresh_every_ms else None

    def _model(self, detector: str, series: str, seen_ms: int) -> Model | None:
        watched = self._watched.get(series)
        if watched is None and seen_ms:
            watched = self.saw(series, seen_ms, seen_ms)
        return watched.models.get(detector) if watched is not None else None

    def _models(self, text: str) -> dict[str, Model]:
        """The first rule of each detector that matches, of groups those of their detector alone."""
        series = Series.of(text)
        of_groups = {each.cfg.detector for each in self._groupings}
        names = {each.cfg.detector for each in self._groupings if each.cfg.name == series.metric}
        models: dict[str, Model] = {}
        for rule, matcher in self._rules:
            if rule.detector in of_groups and rule.detector not in names:
                continue
            if rule.detector not in of_groups and names:
                continue
            if rule.detector not in models and matcher.matches(series):
                models[rule.detector] = Model(rule)
        return models


def _urgency(due: Due) -> tuple[bool, int]:
    """What a person waits for, then series without a model, then the oldest models."""
    return due.trigger not in (Trigger.PERSON, Trigger.LABEL), due.model.fitted_ms or 0


def residuals(
    value: NDArray[np.float64],
    expected: NDArray[np.float32],
    lower: NDArray[np.float32],
    upper: NDArray[np.float32],
) -> NDArray[np.float64]:
    """Deviations in widths of the band, of the samples that have one."""
    width = upper.astype(np.float64) - lower
    known = np.isfinite(value) & np.isfinite(expected) & (width > 0)
    found: NDArray[np.float64] = (value[known] - expected[known]) / width[known]
    return found


def _detector(kind: str) -> Any:
    """For residuals in widths of the band: noise has a mean size of about a twelfth of one."""
    from river import drift  # noqa: PLC0415  # only where a rule asks for it

    adwin: Any = drift.ADWIN
    page_hinkley: Any = drift.PageHinkley
    if kind == "adwin":
        return adwin(delta=1e-4, clock=32, grace_period=300)
    return page_hinkley(min_instances=300, delta=0.02, threshold=10.0)
