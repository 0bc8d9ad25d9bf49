"""The chosen samples with what was found in them, and what more than one view shows of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st
from numpy.typing import NDArray

from console.pages import measures, plots
from console.pages.asking import ALL
from console.pages.choosing import Chosen
from console.pages.context import Context
from console.pages.found import Found

_NO_TOOLS: Final = {"displaylogo": False, "modeBarButtonsToRemove": ["lasso2d", "select2d", "autoScale2d"]}


@dataclass(frozen=True)
class Shown:
    """By metric and model, `ALL` in place of a metric for models of many; ``models`` in order."""

    chosen: Chosen
    models: list[str]
    found: Mapping[str, Mapping[str, Found]]

    def of(self, metric: str) -> dict[str, Found]:
        """What was found in a metric, by models of one and of many."""
        return {**self.found.get(metric, {}), **self.together}

    @property
    def together(self) -> Mapping[str, Found]:
        """What models of many found in all metrics at once."""
        return self.found.get(ALL, {})

    def flags(self, metric: str) -> dict[str, NDArray[np.bool_]]:
        """Which samples each model flags, without those that failed."""
        ts_ms = self.chosen.frame.ts_ms
        return {model: found.flags(ts_ms) for model, found in self.of(metric).items() if not found.error}

    def anyone(self, metric: str) -> NDArray[np.bool_]:
        """What any model says of a metric."""
        nobody = np.zeros(len(self.chosen.frame), np.bool_)
        return np.asarray(np.logical_or.reduce([nobody, *self.flags(metric).values()]))


def chart(figure: go.Figure, key: str, alt: str) -> None:
    """A figure; ``alt`` is what a screen reader says in its place."""
    st.plotly_chart(figure, theme=None, config=_NO_TOOLS, key=key, alt=alt)


def choose_metric(context: Context, shown: Shown, key: str) -> str:
    """One of the chosen metrics."""
    metrics = shown.chosen.metrics
    if len(metrics) == 1:
        return metrics[0]
    return st.selectbox(context.say("metric"), metrics, format_func=shown.chosen.title, key=key)


def strips(context: Context, shown: Shown, flags: Mapping[str, NDArray[np.bool_]], key: str) -> None:
    """When each of ``flags`` was set, one below the other."""
    ts_ms = shown.chosen.frame.ts_ms
    episodes = {name: measures.episodes(own) for name, own in flags.items()}
    spans = {
        name: [(int(ts_ms[each.first]), int(ts_ms[each.last])) for each in own]
        for name, own in episodes.items()
    }
    figure = plots.strips(spans, (int(ts_ms[0]), int(ts_ms[-1])), context.palette)
    counts = ", ".join(f"{name}: {len(own)}" for name, own in episodes.items())
    chart(figure, f"strips {key}", f"{context.say('episodes')}: {counts}")


def episode_table(
    context: Context,
    ts_ms: NDArray[np.int64],
    episodes: Sequence[tuple[measures.Episode, list[str]]],
    who: str,
) -> pd.DataFrame:
    """Episodes with the names of those that take part; ``who`` is the text above these."""
    say = context.say
    return pd.DataFrame(
        [
            {
                **span(context, ts_ms, each),
                say("count"): len(names),
                say(who): ", ".join(names),
            }
            for each, names in episodes
        ]
    )


def span(context: Context, ts_ms: NDArray[np.int64], episode: measures.Episode) -> dict[str, Any]:
    """Two cells: from, to."""
    return {
        context.say("from"): pd.Timestamp(int(ts_ms[episode.first]), unit="ms"),
        context.say("to"): pd.Timestamp(int(ts_ms[episode.last]), unit="ms"),
    }
