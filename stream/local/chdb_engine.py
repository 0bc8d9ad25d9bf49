"""Statements as a ClickHouse server takes them over HTTP, run on the embedded engine (chdb).

What a server does and the engine does not is made up here: settings for one statement, sessions, data that
follow an INSERT, the header of an empty Native result.
"""

import contextlib
import json
import re
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import chdb

# A session that nobody closes lives on for its timeout; a leak of clients must not take the machine down.
MAX_SESSIONS = 1000

_COMMENT = re.compile(rb"\s+|--[^\n]*(?:\n|$)|#![^\n]*(?:\n|$)|/\*.*?\*/", re.DOTALL)
_RETURNS_ROWS = re.compile(
    rb"\(|(?:SELECT|WITH|FROM|SHOW|DESCRIBE|DESC|EXISTS|EXPLAIN|CHECK)\b", re.IGNORECASE
)
_SELECT = re.compile(rb"\(|(?:SELECT|WITH|FROM)\b", re.IGNORECASE)
_TRAILING_FORMAT = re.compile(rb"\bFORMAT\s+(\w+)\s*;?\s*$", re.IGNORECASE)
_NAME = rb'(?:`(?:[^`\\]|\\.)*+`|"(?:[^"\\]|\\.)*+"|[\w.]++)'
# INSERT INTO t (a, b) SETTINGS x = 1 FORMAT Native, then the data on the next line.
_INSERT_FORMAT = re.compile(
    rb"(?P<head>INSERT\s+INTO\s+(?:TABLE\s+)?" + _NAME + rb"(?:\." + _NAME + rb")?"
    rb"(?:\s*\((?:" + _NAME + rb"|[\s,])*+\))?)"
    rb"(?P<settings>\s+SETTINGS\s[^\n]*?)?\s*FORMAT\s+(?P<format>\w+)[ \t]*(?:\r?\n|$)",
    re.IGNORECASE | re.DOTALL,
)
_SETTING_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ERROR_CODE = re.compile(r"Code: (\d+)")


class EngineError(Exception):
    """The engine refuses a statement; `code` is ClickHouse's number for the reason."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def refusal(code: int, text: str, name: str) -> EngineError:
    """An error of our own in the words of ClickHouse, which clients take apart."""
    return EngineError(f"Code: {code}. DB::Exception: {text}. ({name})", code)


@dataclass(frozen=True)
class Statement:
    """One statement with all that a request says about it."""

    sql: bytes
    database: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    default_format: str = "TabSeparated"
    session_id: str = ""
    session_timeout_s: float = 60.0
    session_must_exist: bool = False


@dataclass(frozen=True)
class Answer:
    """A result: `format` is None when the statement returns no rows by its kind (DDL, INSERT)."""

    body: bytes
    format: str | None
    summary: Mapping[str, str]


class _Session:
    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.lock = threading.Lock()
        self.expires = 0.0


class Engine:
    """The embedded engine of this process; calls may come from many threads at once.

    A connection costs 0.1 ms, so each statement outside a session gets its own, and with it a clean state.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._main = chdb.connect(path)
        self._sessions: dict[str, _Session] = {}
        self._sessions_lock = threading.Lock()
        self.timezone = self._main.query("SELECT timezone()", "TabSeparatedRaw").bytes().decode().strip()

    def close(self) -> None:
        """Close all connections, which writes out what the engine still holds."""
        with self._sessions_lock:
            for session in self._sessions.values():
                session.connection.close()
            self._sessions.clear()
        self._main.close()

    def run(self, statement: Statement) -> Answer:
        """Run one statement to its end; raises EngineError with ClickHouse's own message."""
        with self._connection(statement) as connection, _in_clickhouse_words():
            if statement.database:
                connection.query(f"USE {_identifier(statement.database)}")
            if not statement.session_id:
                _set(connection, statement.settings)
                return _execute(connection, statement)
            before = _current(connection, statement.settings)
            try:
                _set(connection, statement.settings)
                return _execute(connection, statement)
            finally:
                _restore(connection, before)

    @contextlib.contextmanager
    def _connection(self, statement: Statement) -> Iterator[Any]:
        if not statement.session_id:
            connection = chdb.connect(self._path)
            try:
                yield connection
            finally:
                connection.close()
            return
        session = self._session(statement)
        try:
            yield session.connection
        finally:
            session.expires = time.monotonic() + statement.session_timeout_s
            session.lock.release()

    def _session(self, statement: Statement) -> _Session:
        """The session of the statement, locked for it."""
        with self._sessions_lock:
            self._expire_sessions()
            session = self._sessions.get(statement.session_id)
            if session is None:
                if statement.session_must_exist:
                    raise refusal(372, "Session not found", "SESSION_NOT_FOUND")
                if len(self._sessions) >= MAX_SESSIONS:
                    raise refusal(202, "Too many sessions", "TOO_MANY_SIMULTANEOUS_QUERIES")
                session = self._sessions[statement.session_id] = _Session(chdb.connect(self._path))
            if not session.lock.acquire(blocking=False):
                raise refusal(373, "Session is locked by a concurrent client", "SESSION_IS_LOCKED")
            return session

    def _expire_sessions(self) -> None:
        now = time.monotonic()
        for name, session in list(self._sessions.items()):
            # The lock: a statement of the session may still run. A new session has no time yet.
            if session.expires and session.expires < now and session.lock.acquire(blocking=False):
                session.connection.close()
                del self._sessions[name]


@contextlib.contextmanager
def _in_clickhouse_words() -> Iterator[None]:
    try:
        yield
    except chdb.ChdbError as error:
        text = str(error)
        message = text[max(text.find("Code: "), 0) :].strip()
        code = _ERROR_CODE.match(message)
        # 1002 is ClickHouse's number for an unknown exception.
        raise EngineError(message, int(code[1]) if code else 1002) from error


def _execute(connection: Any, statement: Statement) -> Answer:
    start = skip_comments(statement.sql)
    insert = _INSERT_FORMAT.match(statement.sql, start)
    if insert is not None:
        return _insert(connection, insert, statement.sql[insert.end() :])
    returns_rows = _RETURNS_ROWS.match(statement.sql, start) is not None
    named = _TRAILING_FORMAT.search(statement.sql)
    result_format = named[1].decode() if named else statement.default_format
    result = connection.query(statement.sql, result_format, params=dict(statement.params))
    body: bytes = result.bytes() or b""
    if not body and returns_rows and result_format == "Native":
        body = _empty_native(connection, statement, named.start() if named else len(statement.sql))
    summary = {"read_rows": str(result.rows_read()), "read_bytes": str(result.bytes_read())}
    return Answer(body, result_format if returns_rows else None, summary | _elapsed(result))


def _insert(connection: Any, insert: re.Match[bytes], data: bytes) -> Answer:
    # Through a file: the engine reads a statement like the command-line client, which ends inline data at an
    # empty line, and two bytes of a binary column can well be one.
    with tempfile.NamedTemporaryFile(prefix="tocsin-insert-", suffix=".data") as file:
        file.write(data)
        file.flush()
        sql = insert["head"] + b" FROM INFILE " + _literal(file.name).encode()
        sql += (insert["settings"] or b"") + b" FORMAT " + insert["format"]
        result = connection.query(sql, "TabSeparated")
    written = {"written_rows": str(result.rows_read()), "written_bytes": str(result.bytes_read())}
    return Answer(b"", None, {"read_rows": "0", "read_bytes": "0"} | written | _elapsed(result))


def _elapsed(result: Any) -> dict[str, str]:
    return {"elapsed_ns": str(int(result.elapsed() * 1e9))}


def _empty_native(connection: Any, statement: Statement, end: int) -> bytes:
    """The Native block without rows by which a server tells names and types of an empty result."""
    query, params = statement.sql[:end], dict(statement.params)
    if _SELECT.match(query, skip_comments(query)):
        described = connection.query(b"DESCRIBE TABLE (\n" + query + b"\n)", "JSONCompact", params=params)
        columns = [(row[0], row[1]) for row in json.loads(described.bytes())["data"]]
    else:
        shown = connection.query(query + b"\nFORMAT JSONCompact", "JSONCompact", params=params)
        columns = [(column["name"], column["type"]) for column in json.loads(shown.bytes())["meta"]]
    texts = [_varint(len(text.encode())) + text.encode() for column in columns for text in column]
    return _varint(len(columns)) + _varint(0) + b"".join(texts)


def skip_comments(sql: bytes) -> int:
    """Where the first word of a statement begins."""
    position = 0
    while (blank := _COMMENT.match(sql, position)) is not None:
        position = blank.end()
    return position


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _literal(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _identifier(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("`", "\\`")
    return f"`{escaped}`"


def _set(connection: Any, settings: Mapping[str, str]) -> None:
    for name, value in settings.items():
        if not _SETTING_NAME.fullmatch(name):
            raise refusal(115, f"Unknown setting {name!r}", "UNKNOWN_SETTING")
        connection.query(f"SET {name} = {_literal(value)}")


def _current(connection: Any, settings: Mapping[str, str]) -> dict[str, str]:
    """How to put back each setting: its value as SQL."""
    if not settings:
        return {}
    names = ", ".join(_literal(name) for name in settings)
    rows = connection.query(
        f"SELECT name, value FROM system.settings WHERE changed AND name IN ({names})",  # noqa: S608 - quoted
        "JSONCompactEachRow",
    )
    changed = dict(json.loads(line) for line in rows.bytes().splitlines())
    return {name: _literal(changed[name]) if name in changed else "DEFAULT" for name in settings}


def _restore(connection: Any, before: Mapping[str, str]) -> None:
    for name, value in before.items():
        # A name that the engine refused before the statement is refused here as well; the first is the news.
        with contextlib.suppress(chdb.ChdbError):
            connection.query(f"SET {name} = {value}")
