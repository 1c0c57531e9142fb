"""The problem generator of the conformance tests and the saved R results serve here too."""

from __future__ import annotations

import sys
from pathlib import Path

for folder in ("conformance", "reference"):
    sys.path.insert(0, str(Path(__file__).parents[1] / folder))
