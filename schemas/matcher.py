"""Which series are meant: ``metric{label="x",other=~"re.*"}`` as in Prometheus; for policies, mutes, console.

The metric may hold ``*`` and ``?`` as in file names, and may be left out; ``=``, ``!=``, ``=~`` and ``!~``
compare labels, the last two with a whole-text regular expression. A label that a series lacks is empty.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import translate
from typing import Final, NamedTuple

from schemas.series import Series

_TERM: Final = re.compile(r'\s*([A-Za-z_][A-Za-z0-9_.]*)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"\s*(,|$)')
_UNESCAPE: Final = re.compile(r'\\(["\\n])')
METRIC: Final = "__name__"

Test = Callable[[str], bool]


class Term(NamedTuple):
    """``label operator value``; the metric is ``__name__``, with the operator ``*=`` (as file names)."""

    label: str
    operator: str
    value: str


class Matcher(NamedTuple):
    """A parsed selector; `parse` makes one, and tells what is wrong with a text."""

    text: str
    tests: tuple[tuple[str, Test], ...]  # label (the metric is ``__name__``) and what its value must pass
    terms: tuple[Term, ...]  # the same, for who asks another engine

    @classmethod
    def parse(cls, text: str) -> Matcher:
        """Raises ``ValueError`` that says what is wrong and where."""
        metric, brace, rest = text.strip().partition("{")
        if not metric and not brace:
            raise ValueError('is empty; write metric{label="value"}, or * for every series')
        terms: list[Term] = []
        if metric.strip() not in {"", "*"}:
            terms.append(Term(METRIC, "*=", metric.strip()))
        if brace:
            if not rest.endswith("}"):
                raise ValueError(f"{text!r} does not end with '}}'")
            terms += _terms(rest[:-1])
        return cls(text, tuple((term.label, _test(term)) for term in terms), tuple(terms))

    def matches(self, series: Series) -> bool:
        """Whether a series is meant."""
        return all(
            test(series.metric if label == METRIC else series.labels.get(label, ""))
            for label, test in self.tests
        )


def _terms(body: str) -> list[Term]:
    found = []
    position = 0
    while position < len(body.rstrip()):
        term = _TERM.match(body, position)
        if term is None:
            raise ValueError(f'expected label="value" at {body[position : position + 20]!r}')
        value = _UNESCAPE.sub(lambda m: "\n" if m[1] == "n" else m[1], term[3])
        found.append(Term(term[1], term[2], value))
        position = term.end()
    return found


def _test(term: Term) -> Test:
    operator, value = term.operator, term.value
    if operator in {"=", "!="}:
        return (lambda text: text == value) if operator == "=" else (lambda text: text != value)
    inside = _whole(translate(value) if operator == "*=" else value)
    return (lambda text: not inside(text)) if operator == "!~" else inside


def _whole(pattern: str) -> Test:
    try:
        compiled = re.compile(pattern, re.DOTALL)
    except re.error as error:
        raise ValueError(f"{pattern!r} is not a regular expression: {error}") from None
    return lambda text: compiled.fullmatch(text) is not None
