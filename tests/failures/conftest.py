"""What is random in these tests is told before they begin."""

from tests.failures.seed import SEED


# The header comes before this file is read where pytest starts at `tests`.
def pytest_report_collectionfinish(items):
    if any(item.path.parent.name == "failures" for item in items):
        return f"FAILURES_SEED={SEED}"
    return []
