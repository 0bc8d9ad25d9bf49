"""`tocsin console` as a process."""

from __future__ import annotations

import asyncio
import socket
import sys


async def test_a_port_that_is_taken_is_told_with_what_to_do() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "stream.cli", "console", "--set", f"console.port={port}"]
        process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
        _, said = await process.communicate()
    assert process.returncode == 2
    expected = f"Port {port} for the API is in use: end the program that has it or choose another port."
    assert expected in " ".join(said.decode().split())
    assert "console.port" in said.decode()
