"""Globs as policy and routes use them: case-sensitive, ``*`` also spans slashes, any of several may match.

This stands on the way of every verdict: a pattern without glob characters is compared as a whole, the
others are compiled once.
"""

import re
from fnmatch import translate
from functools import lru_cache


def matches(patterns: tuple[str, ...] | None, text: str | None) -> bool:
    """Return whether some pattern matches. None as patterns matches all, also a text that is not there."""
    if patterns is None:
        return True
    if text is None:
        return False
    plain, globs = _compiled(patterns)
    return text in plain or (globs is not None and globs.match(text) is not None)


def is_glob(*patterns: str) -> bool:
    """Return whether some of these can match more than the very same text."""
    return any(sign in pattern for pattern in patterns for sign in "*?[")


@lru_cache(maxsize=4096)
def _compiled(patterns: tuple[str, ...]) -> tuple[frozenset[str], re.Pattern[str] | None]:
    globs = [pattern for pattern in patterns if is_glob(pattern)]
    plain = frozenset(patterns).difference(globs)
    return plain, re.compile("|".join(map(translate, globs))) if globs else None
