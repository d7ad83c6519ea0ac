"""Where a stream runs, when the verdict does not say: the first route that matches."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TargetTemplate:
    """A target of a route; ``{stream.name}`` and ``{stream.key}`` are filled in for each stream."""

    account: str
    app: str
    stream: str
    push_domain: str | None = None
    play_domain: str | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """``key`` globs (any of them) and ``tenant`` must match; None matches all."""

    targets: tuple[TargetTemplate, ...]
    key: tuple[str, ...] | None = None
    tenant: str | None = None
