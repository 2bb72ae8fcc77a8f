"""What is freed stays with the process, seen from outside: in another one, as the setting cannot be taken back."""

import platform
import subprocess
import sys

import pytest

ALLOCATE = """
import resource, sys
import numpy as np
from simreal_agents.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
for i in range(20):
    if i == 4:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(40 << 20, np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc, elsewhere nothing is done")
def test_a_large_array_is_made_of_the_last_one():
    faults = {}
    for way in ("keep", "leave"):
        run = subprocess.run([sys.executable, "-c", ALLOCATE, way], capture_output=True, text=True, check=True)
        faults[way] = int(run.stdout)
    assert faults["keep"] < 100 < faults["leave"]
