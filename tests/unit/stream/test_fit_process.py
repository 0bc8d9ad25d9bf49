"""What a fit takes is what its process and all that it has started take."""

import subprocess
import sys

from stream.refresh.fit_process import _resident_bytes

GRANDCHILD = "import sys; held = bytearray(150_000_000); print(len(held), flush=True); sys.stdin.read()"
CHILD = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {GRANDCHILD!r}])"


def test_memory_of_what_a_fit_has_started_counts():
    """Prophet fits in a program of its own."""
    with subprocess.Popen(
        [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"150000000\n"
        assert _resident_bytes(child.pid) > 150_000_000
        child.communicate()
    assert _resident_bytes(child.pid) == 0
