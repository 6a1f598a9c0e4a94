"""What the tests of the report share."""

import pytest

from rankwise.analysis import statistics


@pytest.fixture
def few_resamples(monkeypatch):
    """A tenth of the resamples: how an analysis is drawn and told does not depend on its digits."""
    monkeypatch.setattr(statistics, "RESAMPLES", 500)
