"""Which group a series belongs to, by `schemas.config.Group`."""

from __future__ import annotations

from schemas.config import Group
from schemas.matcher import Matcher
from schemas.series import Series


class Grouping:
    """Names the group of a series; a group is a series itself, of the entry's name and the shared labels."""

    def __init__(self, cfg: Group) -> None:
        """Raises ``ValueError`` for a matcher that cannot be read."""
        self.cfg, self._matcher = cfg, Matcher.parse(cfg.match)

    def of(self, series: Series) -> str:
        """The canonical text of its group; empty where it lacks a label or is not meant."""
        labels = {label: series.labels.get(label, "") for label in self.cfg.group_by}
        if not all(labels.values()) or not self._matcher.matches(series):
            return ""
        return Series(self.cfg.name, labels).text()
