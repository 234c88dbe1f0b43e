"""JSON has no infinities, and prices may be infinite."""

from __future__ import annotations

import math
from typing import Any


def finite(data: Any) -> Any:
    """The same data, with None where a number is infinite or not one."""
    if isinstance(data, dict):
        return {name: finite(value) for name, value in data.items()}
    if isinstance(data, list | tuple):
        return [finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data
