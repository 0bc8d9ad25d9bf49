"""`tocsin pages`: the pages as a process."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from console.pages.theme import DARK, LIGHT
from schemas import config
from stream.errors import UserError
from stream.local.process import LocalRuntimeError, require_free_port

_SCRIPT: Final = Path(__file__).with_name("app.py")


def main(cfg: config.Config, options: Sequence[str]) -> None:
    """Become the Streamlit server, which ends in order with SIGTERM or SIGINT.

    ``options`` are those of `tocsin` that give the pages the configuration ``cfg``: what is secret in it
    is then on no command line. Raises `UserError` when the port is taken.
    """
    try:
        require_free_port(cfg.console.pages_port, "the pages")
    except LocalRuntimeError as error:
        raise UserError(f"{error} (console.pages_port)") from None
    os.execv(sys.executable, [*_command(cfg.console), "--", *options])  # noqa: S606  # our own interpreter


def _command(cfg: config.Console) -> list[str]:
    settings = {
        "server.address": cfg.host,
        "server.port": cfg.pages_port,
        "server.headless": True,
        "server.fileWatcherType": "none",
        "server.maxUploadSize": max(1, cfg.max_upload_bytes // 1024**2),
        "browser.gatherUsageStats": False,
        "client.toolbarMode": "minimal",
        "client.showErrorDetails": "none",
        "theme.metricValueFontSize": "1.4rem",
        "theme.headingFontSizes": '["2rem", "1.35rem", "1.15rem"]',
        **dict(_theme()),
    }
    flags = [
        f"--{name}={str(value).lower() if value in {True, False} else value}"
        for name, value in settings.items()
    ]
    return [sys.executable, "-m", "streamlit", "run", str(_SCRIPT), *flags]


def _theme() -> Iterator[tuple[str, str]]:
    for name, palette in (("light", LIGHT), ("dark", DARK)):
        yield f"theme.{name}.primaryColor", palette.primary
        yield f"theme.{name}.backgroundColor", palette.page
        yield f"theme.{name}.secondaryBackgroundColor", palette.panel
        yield f"theme.{name}.textColor", palette.ink
        yield f"theme.{name}.codeTextColor", palette.ink  # the usual green is too faint in a caption
