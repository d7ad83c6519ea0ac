"""Lengths of time and quotas as people write them: ``10m``, ``7d``, ``300/60s``."""

import re

from worker.words import Millis, Quota

_UNITS: dict[str, Millis] = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_DURATION = re.compile(r"(\d{1,9})(ms|[smhd])", re.ASCII)
_QUOTA = re.compile(r"(\d{1,9})/(.+)", re.ASCII | re.DOTALL)


def parse_duration(text: str) -> Millis:
    """Return the length that ``500ms``, ``30s``, ``10m``, ``24h`` or ``7d`` names, in milliseconds.

    Raises ValueError, with the text in it, for anything else.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f'"{text}" is not a duration (10m, 7d)')
    return int(match[1]) * _UNITS[match[2]]


def parse_quota(text: str) -> Quota:
    """Return the quota that ``N/DURATION`` names, such as ``300/60s``; both parts are above zero.

    Raises ValueError, with the text in it, for anything else.
    """
    match = _QUOTA.fullmatch(text)
    try:
        quota = Quota(int(match[1]), parse_duration(match[2])) if match else None
    except ValueError:
        quota = None
    if quota is None or quota.limit < 1 or quota.window < 1:
        raise ValueError(f'"{text}" is not a quota (300/60s, 500/1d)')
    return quota


def format_duration(length: Millis) -> str:
    """Return a length as one number and the largest unit that loses nothing: 90 000 ms is ``90s``."""
    unit = next(name for name, size in _UNITS.items() if length % size == 0)
    return f"{length // _UNITS[unit]}{unit}" if length else "0s"
