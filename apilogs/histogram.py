"""Durations counted in log-spaced buckets, so that hours can be added up and still give percentiles.

Bucket i holds the durations from 0.1 ms * e^(i/10) up to, not including, 0.1 ms * e^((i+1)/10): ten buckets per factor e,
each about 10.5 % wider than the one before. Bucket 0 also holds everything shorter, bucket 159 (from 804 s) everything
longer. A percentile is the geometric middle of the bucket that holds its nearest rank, so it is within ±5.2 % of the
observed duration of that rank. Trailing empty buckets are not stored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from django.db.models import Expression, F, FloatField, IntegerField, Value
from django.db.models.functions import Cast, Floor, Greatest, Least, Ln

BUCKETS_PER_E = 10
FIRST_MS = 0.1
BUCKETS = 160


def bucket_of(duration_ms: float) -> int:
    if duration_ms <= FIRST_MS:
        return 0
    return min(BUCKETS - 1, math.floor(BUCKETS_PER_E * math.log(duration_ms / FIRST_MS)))


def bucket_expression(field: str = "duration_ms") -> Expression:
    """`bucket_of` for the database."""
    ratio = Greatest(F(field), Value(FIRST_MS), output_field=FloatField()) / Value(FIRST_MS)
    bucket = Floor(Ln(ratio) * Value(float(BUCKETS_PER_E)))
    return Cast(Least(bucket, Value(float(BUCKETS - 1)), output_field=FloatField()), IntegerField())


def middle_ms(bucket: int) -> float:
    return FIRST_MS * math.exp((bucket + 0.5) / BUCKETS_PER_E)


def from_counts(counts: dict[int, int]) -> list[int]:
    return [counts.get(bucket, 0) for bucket in range(max(counts, default=-1) + 1)]


def percentile(histogram: Sequence[int], share: float) -> float | None:
    """The duration below or at which `share` of the observations lie (nearest rank); None without observations."""
    rank = max(1, math.ceil(share * sum(histogram)))
    seen = 0
    for bucket, count in enumerate(histogram):
        seen += count
        if count and seen >= rank:
            return round(middle_ms(bucket), 3)
    return None
