"""Every example of the HTTP API in its documentation, as a shell runs it."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import httpx
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
EXAMPLES = re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / "console.md").read_text(), re.DOTALL)


async def shell(text: str) -> str:
    """Its output, after it has ended well; problems of HTTP are failures."""
    process = await asyncio.create_subprocess_shell(
        f"set -e\n{text}", cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    return said.decode()


def test_there_are_examples() -> None:
    assert len(EXAMPLES) > 5


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
async def test_an_example_of_the_documentation_is_answered(api: httpx.AsyncClient, example: str) -> None:
    served = str(api.base_url).rstrip("/").removeprefix("http://")
    text = example.replace("localhost:8000", served).replace("curl -s", "curl --fail-with-body -s")
    said = await shell(text.replace("redlab\\", "shop\\").replace('"redlab"', '"shop"'))
    if said.startswith("HTTP/1.1"):  # it shows the headers: the answer follows, or where it will be
        head, _, said = said.partition("\r\n\r\n")
        location = re.search(r"location: (\S+)", head)
        if location:
            while (reply := await api.get(location[1], params={"wait_ms": 60_000})).status_code == 202:
                pass
            said = reply.text
        found = json.loads(said)
        assert set(found) == {"Autoencoder", "Isolation Forest", "Prophet"}
        assert {each["kind"] for each in found.values()} == {"intervals", "points"}
    answers = re.split(r"(?<=[]}])(?=[{[])", said)
    assert len(answers) == max(text.count("curl "), 1)
    for answer in answers:
        told = json.loads(answer)
        assert "error" not in {each.get("kind") for each in told.values() if isinstance(each, dict)}, told
