"""Tables of plain text, and those that tell of vendors."""

from collections.abc import Mapping, Sequence

from worker import vendors
from worker.durations import format_duration
from worker.vendors.base import Capacity, Operation, Setting
from worker.words import Quota


def all_vendors() -> str:
    """Return a table of the vendors there are."""
    specs = map(vendors.load_spec, vendors.vendor_names())
    return table([(spec.name, spec.title, spec.summary) for spec in specs])


def one_vendor(name: str) -> str:
    """Return what is fixed about one vendor. Raises UnknownVendor."""
    spec = vendors.load_spec(name)
    parts = [f"{spec.name}: {spec.title}\n{spec.summary}"]
    if spec.endpoint:
        parts.append(f"Endpoint: {spec.endpoint}")
    if spec.settings:
        parts.append(f"Settings of an account:\n{table([_setting(one) for one in spec.settings])}")
    if spec.one_of:
        groups = "; ".join(" + ".join(group) for group in spec.one_of)
        parts.append(f"Exactly one of: {groups}")
    operations = [_operation(one, spec.quotas) for one in spec.operations.values()]
    parts.append(f"Operations:\n{table(operations)}")
    parts.append(f"A ban also ends the running broadcast: {'yes' if spec.forbid_cuts else 'no'}")
    if spec.gate:
        parts.append("A ban takes no call: the server asks the publish gate (moderation-worker gate)")
    if spec.asynchronous:
        parts.append(f"Acknowledged before it is in force: {', '.join(spec.asynchronous)}")
    if spec.quotas:
        quotas = [(f"  {quota}", _windows(windows)) for quota, windows in spec.quotas.items()]
        parts.append(f"Quotas:\n{table(quotas)}")
    if spec.capacities:
        capacities = [_capacity(one) for one in spec.capacities.values()]
        parts.append(f"Kept at most:\n{table(capacities)}")
    links = {**spec.links, **{one.name: one.doc for one in spec.operations.values() if one.doc}}
    parts.append(f"Links:\n{table([(f'  {key}', url) for key, url in links.items()])}")
    return "\n\n".join(parts)


def _setting(one: Setting) -> tuple[str, str, str]:
    marks = [mark for mark, stands in (("required", one.required), ("secret", one.secret)) if stands]
    if one.type != "string":
        marks.append(one.type)
    if one.default is not None:
        marks.append(f"default {str(one.default).lower() if isinstance(one.default, bool) else one.default}")
    return f"  {one.name}", ", ".join(marks), one.help


def _operation(one: Operation, quotas: Mapping[str, tuple[Quota, ...]]) -> tuple[str, str, str, str]:
    charges = [name for name in one.charges if name in quotas]
    limits = [f"counts against {', '.join(charges)}"] if charges else []
    if one.max_length is not None:
        limits.append(f"at most {format_duration(one.max_length)}")
    if one.needs:
        limits.append(f"needs {', '.join(one.needs)}")
    return f"  {one.name}", ", ".join(one.serves) or "-", "; ".join(limits) or "-", one.title


def _capacity(one: Capacity) -> tuple[str, str, str]:
    shown = f"shown by {one.shown_by}" if one.shown_by else ""
    return f"  {one.name}", f"{one.limit} {one.title.lower()} per {one.per}", shown


def _windows(windows: Sequence[Quota]) -> str:
    return ", ".join(f"{one.limit} in {format_duration(one.window)}" for one in windows)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows with their columns lined up."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
