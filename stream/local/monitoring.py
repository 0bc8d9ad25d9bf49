"""Prometheus and Alertmanager of the system on loopback, with the rules that are shipped."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit

import yaml

from stream.local.process import LOOPBACK, Child, LocalRuntimeError, answers, free_port

DEPLOY: Final = Path(__file__).resolve().parents[2] / "deploy"

START_TIMEOUT_S: Final = 30.0
"""Both are ready in a second; a busy machine may take several."""

STOP_TIMEOUT_S: Final = 10.0
"""Prometheus writes its head block at the end."""

_PROGRAMS: Final = {
    "prometheus": ("prometheus",),
    "alertmanager": ("prometheus-alertmanager", "alertmanager"),
}
"""Names on the PATH; Debian's comes first."""


def missing() -> str:
    """One sentence that says what to install, empty when both programs are there."""
    lacking = [name for name, names in _PROGRAMS.items() if not any(map(shutil.which, names))]
    if not lacking:
        return ""
    return (
        f"{' and '.join(lacking)} {'are' if len(lacking) > 1 else 'is'} not on the PATH: "
        "install them (on Debian the packages prometheus and prometheus-alertmanager)."
    )


class Monitoring:
    """Both programs as children in one folder; an alert reaches the receiver that is given."""

    def __init__(
        self,
        folder: Path,
        metrics_urls: Mapping[str, str],
        webhook_url: str = "",
        interval: str = "5s",
        keep_firing_for: str = "",
    ) -> None:
        """``metrics_urls`` by process (worker, sink, notify); ``interval`` of scrapes and evaluations.

        ``keep_firing_for`` takes the place of what the rules say: nobody waits a minute for a test.
        Raises `LocalRuntimeError` when a program is missing.
        """
        if lacking := missing():
            raise LocalRuntimeError(lacking)
        self._folder = folder
        self._urls, self._webhook_url, self._interval = metrics_urls, webhook_url, interval
        self._keep_firing_for = keep_firing_for
        self.prometheus, self.alertmanager = Child("prometheus", folder), Child("alertmanager", folder)
        self.prometheus_url = f"http://{LOOPBACK}:{free_port()}"
        self.alertmanager_url = f"http://{LOOPBACK}:{free_port()}"

    def start(self) -> None:
        """Start both; on failure none is left."""
        try:
            for child in (self.alertmanager, self.prometheus):
                child.acquire()
                shutil.rmtree(self._data(child), ignore_errors=True)
                self._data(child).mkdir(parents=True)
            self._start(self.alertmanager, self.alertmanager_url, self._alertmanager_options())
            self._start(self.prometheus, self.prometheus_url, self._prometheus_options())
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        for child in (self.prometheus, self.alertmanager):
            child.stop(STOP_TIMEOUT_S)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def _start(self, child: Child, url: str, options: Sequence[str]) -> None:
        program = next(filter(None, map(shutil.which, _PROGRAMS[child.name])))
        command = [program, *options, f"--web.listen-address={urlsplit(url).netloc}"]
        child.start(command, ready=lambda: answers(f"{url}/-/ready"), timeout_s=START_TIMEOUT_S)

    def _data(self, child: Child) -> Path:
        return self._folder / f"{child.name}-data"

    def _alertmanager_options(self) -> list[str]:
        cfg = yaml.safe_load((DEPLOY / "alertmanager/alertmanager.yml").read_text(encoding="utf-8"))
        cfg["route"] |= {"group_wait": "1s", "group_interval": "1s"}
        if self._webhook_url:
            cfg["receivers"].append({"name": "webhook", "webhook_configs": [{"url": self._webhook_url}]})
            cfg["route"]["receiver"] = "webhook"
        file = self._write("alertmanager.yml", cfg)
        return [
            f"--config.file={file}",
            f"--storage.path={self._data(self.alertmanager)}",
            "--cluster.listen-address=",  # alone: no gossip
        ]

    def _prometheus_options(self) -> list[str]:
        cfg = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text(encoding="utf-8"))
        cfg["global"] = {"scrape_interval": self._interval, "evaluation_interval": self._interval}
        cfg["rule_files"] = [str(file) for file in self._rules()]
        cfg["alerting"]["alertmanagers"] = [
            {"static_configs": [{"targets": [urlsplit(self.alertmanager_url).netloc]}]}
        ]
        cfg["scrape_configs"] = [
            {"job_name": f"tocsin-{name}", "static_configs": [{"targets": [urlsplit(url).netloc]}]}
            for name, url in self._urls.items()
        ]
        file = self._write("prometheus.yml", cfg)
        return [f"--config.file={file}", f"--storage.tsdb.path={self._data(self.prometheus)}"]

    def _rules(self) -> list[Path]:
        files = sorted((DEPLOY / "prometheus/rules").glob("*.yml"))
        if not self._keep_firing_for:
            return files
        return [self._write(f"rules-{file.name}", self._hurried(file)) for file in files]

    def _hurried(self, file: Path) -> Any:
        rules = yaml.safe_load(file.read_text(encoding="utf-8"))
        for group in rules["groups"]:
            for rule in group["rules"]:
                if "keep_firing_for" in rule:
                    rule["keep_firing_for"] = self._keep_firing_for
        return rules

    def _write(self, name: str, content: Any) -> Path:
        file = self._folder / name
        file.write_text(yaml.safe_dump(content), encoding="utf-8")
        return file
