"""The migration files: each may run twice, and two sinks may run it at once."""

from __future__ import annotations

import re

import pytest

from stream.store.migrations import Migration, shipped

REPEATABLE = re.compile(
    r"CREATE (TABLE|MATERIALIZED VIEW|DICTIONARY) IF NOT EXISTS\b|CREATE OR REPLACE VIEW\b"
    r"|ALTER TABLE \w+ (ADD|DROP) (COLUMN|INDEX) IF (NOT )?EXISTS\b|ALTER TABLE \w+ MODIFY\b"
    r"|DROP (TABLE|VIEW) IF EXISTS\b"
)


def test_files_are_numbered_without_a_hole() -> None:
    files = shipped()
    assert [file.number for file in files] == list(range(1, len(files) + 1))


@pytest.mark.parametrize("file", shipped(), ids=lambda file: file.name)
def test_every_statement_can_run_twice(file: Migration) -> None:
    statements = list(file.statements())
    assert statements
    for statement in statements:
        assert REPEATABLE.match(statement), statement[:80]


def test_comments_and_line_ends_do_not_make_statements() -> None:
    file = Migration(1, "x", "-- a; b;\nSELECT ';';\n\n-- c\nSELECT 2;\n")
    assert list(file.statements()) == ["SELECT ';'", "SELECT 2"]
