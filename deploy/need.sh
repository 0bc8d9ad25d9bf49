#!/bin/sh
# Says in one sentence what this machine lacks: need.sh [python] [java] [maven]
set -eu

lacks() {
    echo "$1" >&2
    exit 1
}

need_python() {
    python=${PYTHON:-python3}
    hint="Tocsin needs Python 3.11 or newer: install it (for example the packages python3.11 and python3.11-venv)"
    command -v "$python" >/dev/null || lacks "$hint; no \`$python\` is on the PATH."
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        lacks "$hint, or name it with make PYTHON=...; \`$python\` is $("$python" --version 2>&1)."
    "$python" -c 'import ensurepip, venv' 2>/dev/null || lacks "$hint; \`$python\` lacks the modules venv and ensurepip."
}

need_java() {
    hint="Kafka needs Java 17 or newer: install it (for example openjdk-17-jre-headless)"
    command -v java >/dev/null || lacks "$hint; no \`java\` is on the PATH."
    version=$(java -version 2>&1 | sed -n 's/.*version "\(1\.\)\{0,1\}\([0-9]*\).*/\2/p' | head -n 1)
    [ "${version:-0}" -ge 17 ] || lacks "$hint; the \`java\` on the PATH is version ${version:-unknown}."
}

need_maven() {
    # Once the artifacts are cached, Maven has done its work.
    for cached in .tocsin/cache/kafka-*; do
        [ -d "$cached" ] && return
    done
    command -v mvn >/dev/null ||
        lacks "Kafka is fetched with Maven: install it (for example the package maven); no \`mvn\` is on the PATH."
}

need_prometheus() {
    for program in prometheus promtool amtool; do
        command -v "$program" >/dev/null || lacks "The tests of alerts run Prometheus and Alertmanager: install \
them (for example the packages prometheus and prometheus-alertmanager); no \`$program\` is on the PATH."
    done
}

need_chromium() {
    command -v chromium >/dev/null || lacks "The pages are tested in Chromium: install it (for example the \
package chromium); no \`chromium\` is on the PATH."
}

for what in "$@"; do
    "need_$what"
done
