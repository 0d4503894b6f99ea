"""Sets the clock off by which an operator judges new assertions: put first on its PYTHONPATH by test_early_catch.py."""

import os
from datetime import timedelta

from trainyard.identity import assertion

_AHEAD = timedelta(minutes=float(os.environ["CLOCK_AHEAD_MINUTES"]))
_right = assertion.utc_now
assertion.utc_now = lambda: _right() + _AHEAD
