"""A demo owns what it deploys, and nothing else."""

import subprocess
import sys

CODE = """
import os
from orchestrator.demo import Demo
print(Demo(None, None, None).name, os.getpid())
"""


def test_two_demos_at_once_have_services_of_their_own():
    names = set()
    for _ in range(2):
        out = subprocess.run(
            [sys.executable, "-c", CODE], capture_output=True, text=True, check=True
        )
        name, pid = out.stdout.split()
        assert name == f"demo-{pid}"
        names.add(name)
    assert len(names) == 2
