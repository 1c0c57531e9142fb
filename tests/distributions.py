"""Building the wheel and the source distribution for tests, without a network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PLAIN = "{'setup-args': ['-Dclones=false']}"  # compiled once: quicker, and the same in all else


def build(kind: str, folder: Path) -> Path:
    """Return the ``"wheel"`` or ``"sdist"`` of this checkout, built in a folder."""
    script = f"import sys, mesonpy; print(mesonpy.build_{kind}(sys.argv[1], {PLAIN}))"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    environment = {**os.environ, "PATH": path}  # meson is beside this Python
    command = [sys.executable, "-c", script, str(folder)]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / done.stdout.splitlines()[-1]
