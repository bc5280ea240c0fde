"""Where the demo's randomness and its instants come from."""

from __future__ import annotations

import random
from datetime import datetime, timedelta

DAYS = 7
PERIOD = timedelta(days=DAYS)
OFFICE_HOURS = range(7, 19)


class Chance(random.Random):
    """Reproducible by its seed. `now` is the end of the week that is made up."""

    def __init__(self, seed: int, now: datetime) -> None:
        super().__init__(seed)
        self.now = now

    def instant(self) -> datetime:
        """Some time of the week: mostly by day, less at the weekend."""
        while True:
            at = self.now - PERIOD * self.random()
            weight = (1.0 if at.hour in OFFICE_HOURS else 0.25) * (0.4 if at.weekday() >= 5 else 1.0)
            if self.random() < weight:
                return at

    def hex(self, digits: int) -> str:
        return f"{self.getrandbits(4 * digits):0{digits}x}"

    def milliseconds(self, typical: float) -> int:
        """A duration: most near `typical`, a few much longer."""
        return max(1, round(self.lognormvariate(0, 0.45) * typical))

    def happens(self, share: float) -> bool:
        return self.random() < share


def later(instant: datetime, milliseconds: float) -> datetime:
    return instant + timedelta(milliseconds=milliseconds)
