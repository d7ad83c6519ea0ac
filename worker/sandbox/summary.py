"""What a run on the stage comes to: pure figures, and the tables that show them."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table

from worker.events.times import parse_rfc3339
from worker.words import Millis

Json = Mapping[str, Any]


def once(results: Iterable[Json]) -> list[Json]:
    """Return each result once, in order; a restart may have published some of them again."""
    return list({result["result_id"]: result for result in results}.values())


def answered(results: Iterable[Json]) -> set[tuple[str, str | None]]:
    """Return the events that have their terminal result, each with the account."""
    return {
        (result["verdict_id"] or result["command_id"], result["target"] and result["target"]["account"])
        for result in results
        if result["terminal"]
    }


def to_action(results: Iterable[Json]) -> list[Millis]:
    """Return, sorted, how long each action took from its verdict's ``detected_at`` to the acknowledgement."""
    return _lengths("answered_at", (one for one in results if one["reason"] == "policy"), "applied")


def to_dark(results: Iterable[Json]) -> list[Millis]:
    """Return, sorted, how long each action took from its verdict's ``detected_at`` until it was verified."""
    return _lengths("verified_at", results, "verified")


def percentile(sorted_lengths: Sequence[Millis], share: float) -> Millis:
    """Return the length that this share of them does not exceed (nearest rank); 0 of none."""
    if not sorted_lengths:
        return 0
    return sorted_lengths[max(0, -int(-share * len(sorted_lengths) // 1) - 1)]


def tables(results: Sequence[Json], calls: Sequence[Json], stats: Mapping[str, Json]) -> Iterator[Table]:
    """Yield the tables of a summary. ``results`` have each one once, ``calls`` are the vendors' log lines."""
    yield _outcomes(results)
    yield _calls(calls)
    yield _quotas(stats)
    yield _delays(results)


def _outcomes(results: Iterable[Json]) -> Table:
    found = Counter(
        (not result["terminal"], result["outcome"], (result["error"] or {}).get("class", ""))
        for result in results
    )
    table = _table("Results", "outcome", "", "number")
    for (on_the_way, outcome, error), number in sorted(found.items()):
        table.add_row(f"{outcome} {error}".strip(), "on the way" if on_the_way else "terminal", str(number))
    return table


def _calls(calls: Iterable[Json]) -> Table:
    made: Counter[tuple[str, str]] = Counter()
    spoiled: Counter[tuple[str, str]] = Counter()
    for call in calls:
        place = (call["vendor"], call["operation"] or "unknown")
        made[place] += 1
        spoiled[place] += call["fault"] is not None
    table = _table("Calls the vendors saw", "vendor", "operation", "calls", "spoiled on purpose")
    for place, number in sorted(made.items()):
        table.add_row(*place, str(number), str(spoiled[place] or ""))
    return table


def _quotas(stats: Mapping[str, Json]) -> Table:
    table = _table("Quotas, as the vendors counted", "vendor", "quota", "most in a window", "too many")
    for vendor, counted in sorted(stats.items()):
        for window in counted["quotas"]:
            used = f"{window['max_used']} of {window['limit']} in {window['window_ms'] / 1000:g} s"
            table.add_row(vendor, window["quota"], used, str(window["violations"] or ""))
    return table


def _delays(results: Sequence[Json]) -> Table:
    table = _table("From the moment a violation was seen", "until", "p50", "p95", "p99", "number")
    for until, found in (
        ("the vendor acted", to_action(results)),
        ("it was verified", to_dark(results)),
    ):
        shown = (f"{percentile(found, share)} ms" for share in (0.5, 0.95, 0.99))
        table.add_row(until, *shown, str(len(found)))
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(column)
    return table


def _lengths(moment: str, results: Iterable[Json], outcome: str) -> list[Millis]:
    return sorted(
        parse_rfc3339(result["timing"][moment]) - parse_rfc3339(result["timing"]["detected_at"])
        for result in results
        if result["outcome"] == outcome and result["timing"]["detected_at"] and result["timing"][moment]
    )
