"""What a verdict on an anomaly proposes, and what that would have done to the past month of its series."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from schemas import config
from schemas.control import Label, Mute, Verdict
from schemas.matcher import Matcher
from schemas.series import Series
from stream.control import muting
from stream.errors import UserError
from stream.store import history
from stream.store.clickhouse import Client

DAY_MS: Final = 86_400_000
PAST_MS: Final = 30 * DAY_MS
MARGIN: Final = 1.001
"""Of the peak score that should not alert any more: just above it."""

LEAST_SHARE: Final = 0.01
"""Of the alert budget in force: a series with less would in effect never alert again."""

SPARE_MS: Final = 600_000
"""A proposed window begins and ends so much earlier and later than the anomaly, at least."""


class Found(NamedTuple):
    """An anomaly as it was told last; ``verdict`` is empty while nobody has labelled it."""

    anomaly_id: str
    series: str
    metric: str
    started_ms: int
    ended_ms: int | None
    peak_score: float
    detectors: list[str]
    reason: str
    verdict: str


class Preview(NamedTuple):
    """A proposed change in words, and which of the past month's anomalies it would have kept from people."""

    change: str
    past: list[Found]
    kept_back: list[Found]

    def lines(self) -> list[str]:
        said = self.change.splitlines()
        if not self.past:
            return said
        real = sum(each.verdict == "true" for each in self.kept_back)
        said.append(
            f"Of the {len(self.past)} anomalies of the series in the past 30 days it would have kept back "
            f"{len(self.kept_back)}, {real} of them labelled true:"
        )
        for each in self.kept_back:
            at = datetime.fromtimestamp(each.started_ms / 1000, UTC)
            label = f"  [{each.verdict}]" if each.verdict else ""
            said.append(f"  {at:%Y-%m-%d %H:%M}  peak {each.peak_score:.2f}  {each.reason}{label}")
        return said


_SELECT: Final = """
SELECT a.anomaly_id, a.series, a.metric, toUnixTimestamp64Milli(a.started), toUnixTimestamp64Milli(a.ended),
       a.peak_score, arrayMap(d -> d.1, a.detectors), a.reason, l.verdict
FROM anomalies_latest AS a LEFT JOIN labels_latest AS l ON l.anomaly_id = a.anomaly_id
"""


def anomaly(client: Client, anomaly_id: str) -> Found:
    """Raises `UserError` where ClickHouse has none of this id."""
    rows = client.rows(f"{_SELECT} WHERE a.anomaly_id = {{id:String}}", {"id": anomaly_id})
    if not rows:
        raise UserError(f"ClickHouse has no anomaly {anomaly_id}: `tocsin tail --json` shows the ids")
    return _found(rows[0])


def preview(client: Client, engine: config.Engine, labelled: Found, verdict: Verdict) -> Preview:
    """What the verdict proposes for the series, against its anomalies of the month up to this one's start."""
    past = _past(client, labelled)
    if verdict == "false":
        return _less_sensitive(client, engine, labelled, past)
    if verdict == "expected":
        return _window(labelled, past)
    return Preview("It changes no policy; models are not fitted on these samples.", [], [])


def label(
    engine: config.Engine, found: Found, verdict: Verdict, *, at_ms: int, by: str = "", why: str = ""
) -> Label:
    """The command that says it, with what was in force."""
    policy = policy_of(engine, found.series)
    return Label(
        command_id=f"{found.anomaly_id}-{at_ms}",
        at_ms=at_ms,
        by=by,
        why=why,
        anomaly_id=found.anomaly_id,
        series=found.series,
        verdict=verdict,
        started_ms=found.started_ms,
        ended_ms=found.ended_ms,
        detectors=found.detectors,
        policy=policy.match if policy is not None else "",
    )


def policy_of(engine: config.Engine, series: str) -> config.Policy | None:
    """The policy in force for a series."""
    parsed = Series.of(series)
    return next((each for each in engine.policies if Matcher.parse(each.match).matches(parsed)), None)


def budget_without(score: float, budget: float, samples_per_day: float) -> float:
    """The alert budget by which a sample of this score would not have alerted, of the one it was scored by.

    A score is log(p) / log(p_alert) with p_alert = budget / samples a day; two digits, rounded down.
    """
    p_alert = min(budget / samples_per_day, 0.5)
    exact = samples_per_day * math.exp(MARGIN * score * math.log(p_alert))
    unit = 10.0 ** (math.floor(math.log10(exact)) - 1)
    return float(f"{math.floor(exact / unit) * unit:.1e}")


def _less_sensitive(client: Client, engine: config.Engine, labelled: Found, past: Sequence[Found]) -> Preview:
    per_day = _samples_per_day(client, labelled)
    if per_day is None:
        return Preview("ClickHouse has no samples of the series, so no alert budget can be proposed.", [], [])
    policy = policy_of(engine, labelled.series)
    budget = (policy.alert_budget if policy is not None else None) or engine.alert_budget
    proposed = budget_without(labelled.peak_score, budget, per_day)
    if proposed < LEAST_SHARE * budget:
        change = (
            f"It proposes nothing: a score of {labelled.peak_score:.1f} is so rare that an alert budget "
            f"without it, {proposed:g} false alarms a day, would silence the series.\n"
            "Where such values are harmless, give the series a policy with normal_min or normal_max."
        )
        return Preview(change, [], [])
    match = labelled.series.replace("'", "''")
    change = (
        f"It proposes a lower alert budget for the series ({proposed:g} false alarms a day instead of "
        f"{budget:g}), by a policy ahead of the others:\n"
        f"  engine: {{policies: [{{match: '{match}', alert_budget: {proposed:g}}}]}}\n"
        "By the scores as they were told; `tocsin backtest` replays the month exactly."
    )
    limit = labelled.peak_score * MARGIN
    return Preview(change, list(past), [each for each in past if each.peak_score < limit])


def _window(labelled: Found, past: Sequence[Found]) -> Preview:
    """A mute at this time of the week, or of the day where that keeps back more that nobody called true."""
    ended_ms = labelled.ended_ms if labelled.ended_ms is not None else labelled.started_ms
    lasts_ms = ended_ms - labelled.started_ms + 2 * SPARE_MS
    best: tuple[str, list[Found]] = ("FREQ=WEEKLY", [])
    for rule, period_ms in (("FREQ=WEEKLY", 7 * DAY_MS), ("FREQ=DAILY", DAY_MS)):
        if lasts_ms >= period_ms:
            continue
        mute = Mute(
            command_id="-",
            at_ms=0,
            mute_id="-",
            matcher="*",
            start_ms=labelled.started_ms - SPARE_MS - PAST_MS // period_ms * period_ms,
            end_ms=labelled.started_ms - SPARE_MS - PAST_MS // period_ms * period_ms + lasts_ms,
            repeat=f"{rule};COUNT={PAST_MS // period_ms + 1}",
        )
        held = muting.spans(mute)
        kept = [each for each in past if any(start <= each.started_ms < end for start, end in held)]
        if _unreal(kept) > _unreal(best[1]):
            best = (rule, kept)
    start = datetime.fromtimestamp((labelled.started_ms - SPARE_MS) / 1000, UTC)
    series = labelled.series.replace("'", "'\\''")
    change = (
        "It proposes a mute at this time, which you open with\n"
        f"  tocsin mute '{series}' --from {start:%Y-%m-%dT%H:%M:%SZ} --for {lasts_ms // 60_000}m "
        f"--repeat {best[0]}"
    )
    return Preview(change, list(past), best[1])


def _unreal(found: Sequence[Found]) -> int:
    return sum(each.verdict != "true" for each in found)


def _past(client: Client, labelled: Found) -> list[Found]:
    rows = client.rows(
        f"""
        {_SELECT} WHERE a.metric = {{metric:String}} AND a.series_id = {{series_id:UInt64}}
        AND a.started > fromUnixTimestamp64Milli({{from:Int64}}, 'UTC')
        AND a.started <= fromUnixTimestamp64Milli({{until:Int64}}, 'UTC') AND a.muted_by IS NULL
        ORDER BY a.started
        """,
        {
            "metric": labelled.metric,
            "series_id": history.series_id(labelled.series),
            "from": labelled.started_ms - PAST_MS,
            "until": labelled.started_ms,
        },
    )
    return [_found(row) for row in rows]


def _samples_per_day(client: Client, labelled: Found) -> float | None:
    """Of the day before the anomaly, or as long as there was anything before it."""
    ((count, span_ms),) = client.rows(
        """
        SELECT count(), toUnixTimestamp64Milli(max(ts)) - toUnixTimestamp64Milli(min(ts)) FROM telemetry FINAL
        WHERE series_id = {series_id:UInt64} AND ts > fromUnixTimestamp64Milli({from:Int64}, 'UTC')
          AND ts <= fromUnixTimestamp64Milli({until:Int64}, 'UTC')
        """,
        {
            "series_id": history.series_id(labelled.series),
            "from": labelled.started_ms - DAY_MS,
            "until": labelled.started_ms,
        },
    )
    return (int(count) - 1) * DAY_MS / int(span_ms) if int(count) > 1 and int(span_ms) > 0 else None


def _found(row: Sequence[Any]) -> Found:
    anomaly_id, series, metric, started, ended, peak, detectors, reason, verdict = row
    return Found(
        anomaly_id,
        series,
        metric,
        int(started),
        None if ended is None else int(ended),
        float(peak),
        list(detectors),
        reason,
        verdict or "",
    )
