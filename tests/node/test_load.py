import io

import pytest

from rankwise.node import load

# user nice system idle iowait irq softirq steal guest guest_nice: see proc_stat(5).
BEFORE = "cpu  1000 200 300 9000 50 6 7 80 900 90\ncpu0 1 2 3 4 5 6 7 8 9 10\n"


@pytest.mark.parametrize(
    ("after", "busy"),
    [
        ("cpu  1000 200 300 9000 50 6 7 80 900 90\n", 0.0),
        ("cpu  1000 200 300 9080 50 6 7 80 900 90\n", 0.0),
        ("cpu  1000 200 300 9060 70 6 7 80 900 90\n", 0.0),
        ("cpu  1020 200 300 9060 50 6 7 80 900 90\n", 1.0),
        ("cpu  1010 204 308 9040 50 7 9 95 900 90\n", 2.0),
        # The time of guests is in `user`.
        ("cpu  1080 200 300 9000 50 6 7 80 980 90\n", 4.0),
    ],
)
def test_busy_cores_by_the_counts_of_linux(monkeypatch, after, busy):
    texts = {"/proc/stat": iter([BEFORE, after])}
    monkeypatch.setattr(load, "open", lambda path: io.StringIO(next(texts[path])), raising=False)
    monkeypatch.setattr(load.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(load.os, "cpu_count", lambda: 4)
    assert load.busy_cores() == busy
