"""What is random in these tests derives from this number; the same one repeats a failure."""

import os
import random

SEED = os.environ.get("FAILURES_SEED") or str(random.SystemRandom().randrange(10**9))
