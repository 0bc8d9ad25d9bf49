"""Log lines on standard error: readable in a terminal, one JSON object a line for machines."""

from __future__ import annotations

import logging
import sys
from typing import Any, Final

import structlog

from schemas import config

NOISY: Final = ("aiokafka", "kafka", "faust", "mode", "asyncio")
"""Libraries that log with the standard library; their warnings are shown, their chatter is not."""


def configure(log: config.Log, process: str) -> None:
    """Set up structlog and the standard library's logging alike; ``process`` stands in each line."""
    level = logging.getLevelNamesMapping()[log.level.upper()]
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, *_rendering(log.format)],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(process=process)
    foreign = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            *_rendering(log.format),
        ],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(foreign)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in NOISY:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))


def silence(log: config.Log) -> None:
    """For commands that print results and say themselves what is wrong: no log lines unless for debugging."""
    configure(log, "tocsin")
    if log.level != "debug":
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
        logging.disable(logging.ERROR)


def _rendering(form: str) -> list[Any]:
    if form == "json":
        return [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer()]
    return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
