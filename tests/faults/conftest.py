"""What is random in these tests is told before they begin."""

from tests.faults.seed import SEED


# The header comes before this file is read where pytest starts at `tests`.
def pytest_report_collectionfinish(items):
    if any(item.path.parent.name == "faults" for item in items):
        return f"FAULTS_SEED={SEED}"
    return []
