"""Where a stream runs, when the verdict does not say: the first route that matches."""

import re
from collections.abc import Sequence
from functools import lru_cache

from worker.core.globs import matches
from worker.words import Target, value

FIELDS = ("stream.name", "stream.key")
"""What a template may name in braces; ``stream.name`` is the part of the key after the last ``/``."""

IN_BRACES = re.compile(r"\{([^{}]*)\}")


@value()
class TargetTemplate:
    """A target of a route; ``{stream.name}`` and ``{stream.key}`` are filled in for each stream."""

    account: str
    app: str
    stream: str
    push_domain: str | None = None
    play_domain: str | None = None


@value()
class Route:
    """``key`` globs (any of them) and ``tenant`` must match; None matches all."""

    targets: tuple[TargetTemplate, ...]
    key: tuple[str, ...] | None = None
    tenant: str | None = None


class Routes:
    """All routes, in their order. What is found for a stream is kept: it is asked for again and again."""

    def __init__(self, routes: Sequence[Route] = ()) -> None:
        self._routes = tuple(routes)
        self.resolve = lru_cache(maxsize=10_000)(self._resolve)

    def _resolve(self, stream_key: str, tenant: str | None) -> tuple[Target, ...]:
        """Return the targets of the first route that matches, none if no route does.

        A target whose application or stream name comes out empty is left out: some vendors read an
        empty name as "all of them".
        """
        for route in self._routes:
            if route.tenant in (None, tenant) and (route.key is None or matches(route.key, stream_key)):
                filled = [_fill(template, stream_key) for template in route.targets]
                return tuple([target for target in filled if target.app and target.stream])
        return ()


NO_ROUTES = Routes()


def _fill(template: TargetTemplate, key: str) -> Target:
    return Target(
        account=template.account,
        app=_text(template.app, key),
        stream=_text(template.stream, key),
        push_domain=template.push_domain and _text(template.push_domain, key),
        play_domain=template.play_domain and _text(template.play_domain, key),
    )


def _text(template: str, key: str) -> str:
    if "{" not in template:
        return template
    name = key.rpartition("/")[2]
    if template == "{stream.name}":  # nearly always, and on the way of every verdict
        return name
    values = {"stream.name": name, "stream.key": key}
    # In one pass: what a key brings along is never read as a template.
    return IN_BRACES.sub(lambda found: values.get(found[1], found[0]), template)
