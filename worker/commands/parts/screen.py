"""A view of the replicas as a screen of rich. The only part that needs the ``top`` extra."""

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from worker.commands.parts.watching import View
from worker.words import PRIORITIES

BAR = 20
FULL, HIGH = 0.98, 0.8


def screen(view: View) -> RenderableType:
    """Return everything on one screen."""
    upper = [_rates(view), _outcomes(view), _parked(view)]
    lower = [_queues(view), _quotas(view)]
    return Group(_head(view), Columns(upper), Columns(lower), _slowest(view))


def _head(view: View) -> Text:
    text = Text()
    for replica in view.replicas:
        fine = replica["error"] is None
        word = f"version {replica['version']}" if fine else str(replica["error"])
        text.append(f"{replica['url']}  {word}\n", style="green" if fine else "bold red")
    return text


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, header_style="dim", pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right")
    return table


def _rates(view: View) -> Table:
    table = _table("Now", "", "")
    for name, rate in view.rates.items():
        table.add_row(f"{name.replace('_', ' ')} a second", f"{rate:,.1f}")
    table.add_row("lag, records", f"{view.lag:,}")
    table.add_row("streams", f"{view.streams:,}")
    table.add_row("oldest pending, s", f"{view.oldest_pending_s:,.1f}")
    table.add_row("overdue end, s", _alarm(view.overdue_s, f"{view.overdue_s:,.1f}"))
    table.add_row("journal resets", f"{view.journal_resets:,}")
    table.add_row("policy files refused", _alarm(view.refused_reloads, f"{view.refused_reloads:,}"))
    return table


def _outcomes(view: View) -> Table:
    table = _table("Outcomes", "", "total", "a second")
    for outcome, numbers in view.outcomes.items():
        style = "red" if outcome == "failed" else ""
        table.add_row(Text(outcome, style), f"{numbers['total']:,.0f}", f"{numbers['per_s']:,.1f}")
    return table


def _parked(view: View) -> Table:
    table = _table("Held", "", "")
    for reason, number in view.parked.items():
        table.add_row(reason, _alarm(number, f"{number:,}"))
    for guard, parks in view.guards.items():
        table.add_row(f"guard {guard}", _alarm(parks, "parks" if parks else "open"))
    return table


def _alarm(value: float, text: str) -> Text:
    return Text(text, "bold yellow" if value else "")


def _queues(view: View) -> Table:
    table = _table("Calls that wait", "account", *PRIORITIES)
    for account, queue in view.waiting.items():
        table.add_row(account, *(f"{queue.get(priority, 0):,}" for priority in PRIORITIES))
    return table


def _quotas(view: View) -> Table:
    table = _table("Quotas used", "", "", "")
    for name, ratio in view.quotas.items():
        style = "red" if ratio >= FULL else "yellow" if ratio >= HIGH else "green"
        filled = round(min(1.0, ratio) * BAR)
        table.add_row(name, Text("█" * filled + "·" * (BAR - filled), style), f"{ratio:.0%}")
    return table


def _slowest(view: View) -> RenderableType:
    if view.slowest is None:
        return Panel(view.topics_error or "", title="The topics cannot be read", border_style="red")
    table = _table("Longest without a terminal result", "stream", "s", "accounts", "")
    for slow in view.slowest:
        table.add_row(
            slow.stream or slow.digest, f"{slow.pending_s:,.1f}", ", ".join(slow.accounts), slow.waits
        )
    return table
