"""What test modules share.

Hypothesis draws the same examples in every run; for `make properties` it draws many times as many, and others in
each run, which --hypothesis-seed=N repeats.
"""

import os

import execution
import pytest
from hypothesis import HealthCheck, Phase, settings

_BOTH = {
    "database": None,
    "deadline": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.large_base_example],
}
settings.register_profile(
    "repeatable",
    max_examples=3,
    derandomize=True,
    phases=[Phase.generate],  # to shrink takes minutes
    **_BOTH,
)
settings.register_profile("thorough", max_examples=200, **_BOTH)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


@pytest.fixture
def environment(monkeypatch):
    """Pages executed here stay within the test's own folder, and what `prepare_kernels` sets is put back at the end."""
    monkeypatch.delenv("LRTHEORY_BUILD", raising=False)  # `make` names its folder, which tests side by side would share
    for name in execution.ENVIRONMENT:
        monkeypatch.setenv(name, "")
