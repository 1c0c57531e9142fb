"""The problem generator of the conformance tests serves here too; how many examples are drawn, and which.

The profile ``same`` takes the same examples in every run, so that a failure on one machine is one on all. The profile
``wide`` takes ten times as many, others in every run: ``pytest tests/properties --hypothesis-profile=wide``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parents[1] / "conformance"))

settings.register_profile(
    "same", derandomize=True, max_examples=20, deadline=None, suppress_health_check=list(HealthCheck)
)
settings.register_profile("wide", settings.get_profile("same"), derandomize=False, max_examples=200, print_blob=True)
settings.load_profile("same")
