"""Building the wheel and the source distribution for tests, without a network."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from shutil import copytree, ignore_patterns

REPOSITORY = Path(__file__).resolve().parents[1]
NOT_OURS = ignore_patterns(".*", "__pycache__", "*.so", "build", "dist", "*.egg-info", "_build", "jupyter_execute")


def build(kind: str, folder: Path) -> Path:
    """Return the ``"wheel"`` or ``"sdist"`` of this checkout, built in a folder from a copy that leaves it alone."""
    source = folder / f"source-{kind}"
    copytree(REPOSITORY, source, ignore=NOT_OURS)
    script = f"import sys; from setuptools import build_meta; print(build_meta.build_{kind}(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", script, str(folder)], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / done.stdout.splitlines()[-1]
