"""Cases that are left to `make test-long`."""

import functools

import pytest

# In the place of `pytest.param`.
long = functools.partial(pytest.param, marks=pytest.mark.long)
