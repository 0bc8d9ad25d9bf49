"""The reference pages say what the structs say."""

import msgspec
import pytest

from schemas.config import Config
from stream import docs


@pytest.mark.parametrize("path", docs.pages(), ids=str)
def test_a_generated_page_is_not_stale(path):
    written = (docs.ROOT / path).read_text(encoding="utf-8")
    assert written == docs.pages()[path], "run `python -m stream.docs`"


def test_every_key_is_on_the_page():
    page = docs.configuration()
    for section in msgspec.structs.fields(Config):
        assert f"## {section.name}" in page
    assert "| `batch_interval_ms` |" in page
    assert "`tocsin.anomalies`" in page
