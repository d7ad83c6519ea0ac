"""Whether something that was sampled for a while grows: a straight line through the second half."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import linear_regression, mean


@dataclass(frozen=True, slots=True)
class Trend:
    """The line of least squares: the samples' mean, its rise an hour, and how many hours it is long."""

    mean: float
    per_hour: float
    hours: float

    @property
    def growth(self) -> float:
        """How much it rises over its length."""
        return self.per_hour * self.hours


def trend(samples: Sequence[tuple[float, float]]) -> Trend:
    """Return the trend of (seconds, value) in the second half of their time; at least two must lie there."""
    half = (samples[0][0] + samples[-1][0]) / 2
    times, values = zip(*(sample for sample in samples if sample[0] >= half), strict=True)
    slope = linear_regression(times, values).slope
    return Trend(mean(values), slope * 3600, (times[-1] - times[0]) / 3600)
