"""What `tocsin produce` does around `stream.files.produce`: reads options, shows progress, sums up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from schemas import config
from stream.errors import UserError
from stream.files.produce import Encoding, Sent, chunk_size, produce
from stream.files.sources import Chunk, Columns, Kind, kind_of, read
from stream.files.tables import STDIN, Meter


def run(
    cfg: config.Config,
    files: Sequence[str],
    form: Literal["auto"] | Kind,
    columns: Columns,
    labels: Sequence[str],
    *,
    topic: str,
    encoding: Encoding,
    rate: float | None,
    key_by: Sequence[str] = (),
) -> None:
    """Send the files one after the other and say how fast it went."""
    fixed = parse_labels(labels)
    kinds = [_kind(path, form) for path in files]  # all are looked at before the first is sent
    console = Console(stderr=True)
    total, began = Sent(), time.monotonic()
    with _progress(console) as progress:
        for path, kind in zip(files, kinds, strict=True):
            meter, task = Meter(), progress.add_task(path, total=None, samples=0)

            def tell(sent: Sent, task=task, meter=meter) -> None:  # type: ignore[no-untyped-def]
                progress.update(
                    task, total=meter.size or None, completed=meter.position(), samples=sent.samples
                )

            chunks: Iterator[Chunk] = read(path, kind, columns, fixed, chunk_size(rate), meter)
            sending = produce(
                cfg.kafka, topic, chunks, encoding=encoding, rate=rate, key_by=key_by, progress=tell
            )
            sent = asyncio.run(sending)
            total = Sent(*(a + b for a, b in zip(total, sent, strict=True)))
    _sum_up(console, topic, total, time.monotonic() - began)


def parse_labels(labels: Sequence[str]) -> dict[str, str]:
    """``service=shop`` as a mapping; raises `UserError`."""
    found = {}
    for label in labels:
        name, equals, value = label.partition("=")
        if not name or not equals:
            raise UserError(f"--label {label!r} is not of the form service=shop")
        found[name] = value
    return found


def _kind(path: str, form: Literal["auto"] | Kind) -> Kind:
    if path != STDIN and not Path(path).is_file():
        raise UserError(f"{path}: {'is a folder' if Path(path).is_dir() else 'no such file'}")
    if form != "auto":
        return form
    if path == STDIN:
        raise UserError(
            "standard input has no name that tells its format; say --format csv, jsonl or timeslice"
        )
    return kind_of(path)


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[samples]:,} samples"),
        TimeElapsedColumn(),
        console=console,
    )


def _sum_up(console: Console, topic: str, sent: Sent, seconds: float) -> None:
    gaps = f", {sent.gaps:,} empty values" if sent.gaps else ""
    console.print(
        f"{sent.samples:,} samples in {sent.messages:,} messages to {topic}{gaps}: "
        f"{seconds:.1f} s, {sent.samples / max(seconds, 1e-9):,.0f} samples a second",
        highlight=False,
    )
