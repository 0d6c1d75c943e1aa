from __future__ import annotations

import sys
from pathlib import Path

# The toy papers are a package of their own, as a third party's would be; workers inherit the path.
sys.path.insert(0, str(Path(__file__).parents[1] / "toys"))
