"""Hypothesis profiles: ``ci`` draws the same examples every time, ``thorough`` many more."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

from tests.endpoint import bucket, endpoint  # noqa: F401 - fixtures

settings.register_profile(
    "ci", deadline=None, max_examples=120, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("dev", deadline=None, max_examples=120, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", deadline=None, max_examples=5000, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))
