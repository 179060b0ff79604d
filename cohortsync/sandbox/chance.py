"""How often something happens while time passes, and to whom."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

DAY = 86400
LONG_ENOUGH = 7200
T = TypeVar("T")


def how_many(rng: random.Random, a_day: float, seconds: float) -> int:
    """So many a day, in so many seconds; in two hours everything happens at least once."""
    return max(int(a_day * seconds / DAY + rng.random()), int(seconds >= LONG_ENOUGH))


def some(rng: random.Random, pool: Sequence[T], wanted: int) -> list[T]:
    """So many of the pool, or all there are."""
    return rng.sample(pool, min(wanted, len(pool)))
