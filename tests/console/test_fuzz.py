"""The API against what its own OpenAPI page allows: no question may be an internal error (schemathesis)."""

from __future__ import annotations

import asyncio

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error

EXAMPLES = 12
"""Of each operation."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


async def test_no_question_is_an_internal_error(api: httpx.AsyncClient) -> None:
    page = (await api.get("/openapi.json")).json()
    schema = schemathesis.openapi.from_dict(page)
    tried = 0

    for result in schema.get_all_operations():
        operation = result.ok()

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def ask(case: schemathesis.Case) -> None:
            nonlocal tried
            tried += 1
            reply = case.call(base_url=str(api.base_url), timeout=60)
            if reply.status_code == 429:
                raise AssertionError("raise console.requests_per_minute of the tests")
            case.validate_response(reply, checks=[not_a_server_error])

        await asyncio.to_thread(ask)
    assert tried >= 5 * len(page["paths"])
