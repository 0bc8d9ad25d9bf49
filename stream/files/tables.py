"""CSV files of people: found columns, times and values, and errors that name the line."""

from __future__ import annotations

import contextlib
import csv
import difflib
import gzip
import io
import math
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final, Self, TextIO, cast

from stream.errors import UserError
from stream.formats.timestamps import to_ms

STDIN: Final = "-"
TIMESTAMP_NAMES: Final = ("timestamp", "time", "ts", "datetime", "date")
GAPS: Final = frozenset({"", "nan", "null", "none", "na", "n/a"})
"""Texts, in lower case, that stand for no value."""

_SEPARATORS: Final = {";": "semicolons", "\t": "tabs"}
"""What spreadsheets write in place of commas."""

_GZIP_MAGIC: Final = b"\x1f\x8b"


class Meter:
    """How far reading a file has come, in bytes on the disk; ``size`` is 0 where it is not known."""

    def __init__(self) -> None:
        self.size = 0
        self._raw: BinaryIO | None = None

    def watch(self, raw: BinaryIO) -> None:
        self._raw = raw
        self.size = os.fstat(raw.fileno()).st_size

    def position(self) -> int:
        if self._raw is None or self._raw.closed:
            return self.size
        return os.lseek(self._raw.fileno(), 0, os.SEEK_CUR)


@contextlib.contextmanager
def open_bytes(path: str, meter: Meter | None = None) -> Iterator[io.BufferedReader | gzip.GzipFile]:
    """The file, or standard input for ``-``; what begins as gzip is unpacked, whatever its name."""
    try:
        stdin = cast("io.BufferedReader", sys.stdin.buffer)
        raw = stdin if path == STDIN else Path(path).open("rb")  # noqa: SIM115  # closed below
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    with contextlib.ExitStack() as closing:
        if path != STDIN:
            closing.enter_context(raw)
            if meter is not None:
                meter.watch(raw)
        if raw.peek(2)[:2] == _GZIP_MAGIC:
            yield closing.enter_context(gzip.GzipFile(fileobj=raw))
        else:
            yield raw


class Table:
    """A CSV file with a header; iterate over it for ``(line, fields)``."""

    def __init__(self, path: str, lines: TextIO) -> None:
        self.path = path
        self._reader = csv.reader(lines, strict=True)
        try:
            self.header = [name.strip() for name in next(self._reader)]
        except StopIteration:
            raise UserError(f"{path} is empty: expected a header line such as `timestamp,value`") from None
        except UnicodeDecodeError:
            hint = "save it as CSV in UTF-8, not as a spreadsheet"
            raise UserError(f"{path} is not UTF-8 text: {hint}") from None
        except (csv.Error, EOFError) as error:
            raise UserError(f"{path}, line 1: {error}") from None
        for separator, called in _SEPARATORS.items():
            if len(self.header) == 1 and separator in self.header[0]:
                raise UserError(f"{path} separates its columns by {called}: save it with commas")

    @classmethod
    @contextlib.contextmanager
    def open(cls, path: str, meter: Meter | None = None, name: str = "") -> Iterator[Self]:
        """``name`` is what people call the file, where that is not its path."""
        with open_bytes(path, meter) as raw:
            try:
                yield cls(name or path, io.TextIOWrapper(raw, encoding="utf-8-sig", newline=""))
            except gzip.BadGzipFile as error:
                raise UserError(f"{name or path} cannot be unpacked: {error}") from None

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        width = len(self.header)
        while True:
            try:
                row = next(self._reader)
            except StopIteration:
                return
            except UnicodeDecodeError as error:
                raise UserError(f"{self.path} is not UTF-8 text at byte {error.start}") from None
            except (csv.Error, EOFError) as error:
                raise self.error(self._reader.line_num, str(error)) from None
            if not row:
                continue  # an empty line, often the last
            if len(row) != width:
                raise self.error(self._reader.line_num, f"has {len(row)} fields, the header has {width}")
            yield self._reader.line_num, row

    def error(self, line: int, text: str) -> UserError:
        return UserError(f"{self.path}, line {line}: {text}")

    def column(self, wanted: str | None, usual: Sequence[str], option: str) -> int:
        """The place of a column: the one wanted, else the first with one of the usual names in any case."""
        if wanted is not None:
            if wanted in self.header:
                return self.header.index(wanted)
            near = difflib.get_close_matches(wanted, self.header, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UserError(f"{self.path} has no column {wanted!r}; it has {self._columns()}{hint}")
        lower = [name.lower() for name in self.header]
        for name in usual:
            if name in lower:
                return lower.index(name)
        raise UserError(
            f"{self.path} has no column {' or '.join(map(repr, usual))}; "
            f"name one of {self._columns()} with {option}"
        )

    def time(self, line: int, text: str) -> int:
        """Unix milliseconds of ISO 8601, Unix seconds or milliseconds."""
        try:
            return parse_time(text)
        except ValueError as error:
            raise self.error(
                line, f"{error}; a time is ISO 8601, Unix seconds or Unix milliseconds"
            ) from None

    def value(self, line: int, text: str) -> float:
        """The number, NaN for a gap."""
        try:
            return parse_value(text)
        except ValueError as error:
            raise self.error(line, str(error)) from None

    def _columns(self) -> str:
        return ", ".join(map(repr, self.header))


def parse_time(text: str) -> int:
    """Raises ``ValueError``."""
    text = text.strip()
    try:
        number = float(text)
    except ValueError:
        return to_ms(text)
    return to_ms(int(text) if text.isdigit() else number)


def parse_value(text: str) -> float:
    """Raises ``ValueError``."""
    try:
        number = float(text)
    except ValueError:
        if text.strip().lower() in GAPS:
            return math.nan
        raise ValueError(
            f"{text[:40]!r} is not a number; leave the field empty where there is no value"
        ) from None
    if math.isinf(number):
        raise ValueError(f"{text[:40]!r} is not finite; leave the field empty where there is no value")
    return number
