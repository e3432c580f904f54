"""Hypothesis's profiles: `make fuzz` takes the long one for tests/test_fuzz.py."""

from hypothesis import HealthCheck, settings

settings.register_profile("fuzz", max_examples=20_000, deadline=None, suppress_health_check=list(HealthCheck))
