"""The jars of Apache Kafka, fetched once with Maven into a cache folder."""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from stream.local.process import LocalRuntimeError

MIN_JAVA = 17
_REPOSITORY_ROOT = Path(__file__).resolve().parents[2]
DEFAULT_POM = _REPOSITORY_ROOT / "deploy" / "local-kafka" / "pom.xml"
# 54 MB over a slow line; Maven itself gives up on a dead server much earlier.
_FETCH_TIMEOUT_S = 900.0


def default_cache_dir() -> Path:
    """`.tocsin/cache` in a checkout, the user's cache folder (the XDG rule) when installed elsewhere."""
    if DEFAULT_POM.exists():
        return _REPOSITORY_ROOT / ".tocsin" / "cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tocsin"


def require_java(java: str = "java") -> str:
    """The path of a Java that is new enough for Kafka 4, or one sentence that says what to install."""
    wanted = f"Kafka needs Java {MIN_JAVA} or newer: install it (for example openjdk-17-jre-headless)"
    found = shutil.which(java)
    if found is None:
        raise LocalRuntimeError(f"{wanted}; no `{java}` is on the PATH.")
    # An old Java may write the version to stderr only, and macOS has a stub that is no Java at all.
    said = subprocess.run(  # noqa: S603 - found on the PATH of the person who asks
        [found, "-version"], capture_output=True, text=True, check=False
    )
    match = re.search(r'version "(?:1\.)?(\d+)', said.stderr + said.stdout)
    if match is None:
        raise LocalRuntimeError(f"{wanted}; the `{java}` on the PATH does not tell its version.")
    if int(match[1]) < MIN_JAVA:
        raise LocalRuntimeError(f"{wanted}; the `{java}` on the PATH is version {match[1]}.")
    return found


def require_maven(maven: str = "mvn") -> str:
    """The path of Maven, or one sentence that says what to install."""
    found = shutil.which(maven)
    if found is None:
        raise LocalRuntimeError(
            f"Kafka is fetched with Maven: install it (for example the package maven); "
            f"no `{maven}` is on the PATH."
        )
    return found


def jars_dir(cache_dir: Path, pom: Path = DEFAULT_POM) -> Path:
    """Where the jars that `pom` names lie or will lie; the folder exists only once it is complete."""
    if not pom.exists():
        raise LocalRuntimeError(f"{pom} is missing: run from a checkout of Tocsin.")
    return cache_dir / f"kafka-{hashlib.sha256(pom.read_bytes()).hexdigest()[:12]}"


def fetch(cache_dir: Path, *, pom: Path = DEFAULT_POM, maven: str = "mvn") -> Path:
    """The folder of jars, fetched when it is not there yet; safe to call from several processes at once."""
    target = jars_dir(cache_dir, pom)
    if target.is_dir():
        return target
    program = require_maven(maven)
    cache_dir.mkdir(parents=True, exist_ok=True)
    with (cache_dir / "fetch.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.is_dir():
            _copy_dependencies(program, pom, target)
    return target


def _copy_dependencies(program: str, pom: Path, target: Path) -> None:
    # A folder of its own and one rename: a fetch that was cut off leaves nothing that looks complete.
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="fetching-") as partial:
        jars = Path(partial) / "lib"
        command = [program, "-B", "-q", "-f", str(pom), "dependency:copy-dependencies", f"-Dkafka.lib={jars}"]
        try:
            done = subprocess.run(  # noqa: S603 - as above
                command,
                capture_output=True,
                text=True,
                check=False,
                stdin=subprocess.DEVNULL,
                timeout=_FETCH_TIMEOUT_S,
            )
        except subprocess.TimeoutExpired as error:
            raise LocalRuntimeError(
                f"Maven did not fetch Kafka within {_FETCH_TIMEOUT_S:.0f} s: check the network and try again."
            ) from error
        if done.returncode != 0 or not any(jars.glob("kafka_*.jar")):
            said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-10:])
            raise LocalRuntimeError(
                f"Maven could not fetch Kafka: check the network and try again. It said:\n{said}"
            )
        jars.rename(target)
