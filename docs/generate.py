"""What is made from every ``vendor.toml``: ``python -m docs.generate`` writes it anew.

A page per vendor, the table in the README, and the chart's list of keys whose values are secrets.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from worker.durations import format_duration
from worker.vendors import load_spec, vendor_names
from worker.vendors.base import BY_GATE, Operation, Setting, VendorSpec
from worker.words import Purpose, Quota

ROOT = Path(__file__).parents[1]
README = "README.md"
HELPERS = "helm/moderation-worker/templates/_helpers.tpl"
OTHER_SECRETS = ("password", "sasl_plain_password", "ssl_password")
"""Secret keys of the configuration that are no vendor's own."""

BEGIN, END = "<!-- vendors: made by make docs -->", "<!-- /vendors -->"
WAYS: Mapping[str, str] = {"sdk": "vendor's own SDK", "simulator": "simulator", "server": "real server"}
READS: Mapping[Purpose, str] = {
    "read_forbid": "bans",
    "read_regions": "region blocks",
    "read_live": "live streams",
}
PURPOSES: tuple[Purpose, ...] = get_args(Purpose)
NONE = "-"


def specs() -> list[VendorSpec]:
    """Return the vendors of this tree; an installed one has a page of its own elsewhere."""
    here = [name for name in vendor_names() if (ROOT / "worker/vendors" / name / "vendor.toml").exists()]
    return [load_spec(name) for name in here]


def proof() -> dict[str, dict[str, Any]]:
    """Return what each vendor's operations were proven with."""
    return tomllib.loads((ROOT / "docs/vendors/proof.toml").read_text("utf-8"))


def files() -> dict[str, str]:
    """Return the text of every file that is made, or made in part, by its path below the root."""
    found, proven = specs(), proof()
    made = {f"docs/vendors/{spec.name}.md": page(spec, proven.get(spec.name, {})) for spec in found}
    readme, helpers = ((ROOT / path).read_text("utf-8") for path in (README, HELPERS))
    made[README] = between(readme, f"{BEGIN}\n", f"\n{END}", overview(found))
    made[HELPERS] = between(
        helpers, '{{- define "moderation-worker.secretKeys" -}}\n', "\n", " ".join(secret_keys(found))
    )
    return made


def secret_keys(found: Iterable[VendorSpec]) -> list[str]:
    """Return every key of the configuration whose value is a secret."""
    declared = {
        setting.name.rpartition(".")[2] for spec in found for setting in spec.settings if setting.secret
    }
    return [*sorted(declared - set(OTHER_SECRETS)), *OTHER_SECRETS]


def between(text: str, begin: str, end: str, new: str) -> str:
    """Return a text with what stands between two marks replaced. Raises ValueError where they are missing."""
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"expected {begin.strip()} and its end")
    return f"{before}{begin}{new}{end}{after}"


def overview(found: Iterable[VendorSpec]) -> str:
    """Return the table of what each vendor can do."""
    return table(
        ("vendor", "cut", "forbid until", "lift", "block regions", "ask"),
        (
            (
                f"[{spec.title}](docs/vendors/{spec.name}.md)",
                named(spec, "cut"),
                named(spec, "forbid", "move_end"),
                named(spec, "lift"),
                named(spec, "block_regions"),
                ", ".join(what for purpose, what in READS.items() if spec.serving(purpose)) or NONE,
            )
            for spec in found
        ),
    )


def named(spec: VendorSpec, *purposes: Purpose) -> str:
    """Return the operations that serve some purposes, or that the publish gate does."""
    if spec.gate and set(purposes) <= set(BY_GATE):
        return "the publish gate"
    serving = filter(None, map(spec.serving, purposes))
    return ", ".join(dict.fromkeys(f"`{each.name}`" for each in serving)) or NONE


def page(spec: VendorSpec, proven: Mapping[str, Any]) -> str:
    """Return a vendor's page."""
    sections = [
        f"# {spec.title}",
        f"<!-- Made by make docs from worker/vendors/{spec.name}/vendor.toml and proof.toml. -->",
        f"{spec.summary}\n\nIn a configuration: `vendor: {spec.name}`.",
        "## What serves each purpose\n\n"
        + table(("purpose", "operation"), ((f"`{each}`", named(spec, each)) for each in PURPOSES)),
        "## Operations\n\n" + "\n\n".join(operation(each) for each in spec.operations.values()),
    ]
    if spec.settings:
        sections.append("## Settings of an account\n\n" + settings(spec))
    if spec.quotas:
        rows = ((f"`{name}`", windows(each), charged(spec, name)) for name, each in spec.quotas.items())
        sections.append("## Quotas\n\n" + table(("quota", "calls", "counts"), rows))
    if spec.capacities:
        kept = (
            (f"`{one.name}`", one.title, f"{one.limit} per {one.per}") for one in spec.capacities.values()
        )
        sections.append("## Kept at most\n\n" + table(("capacity", "what", "at most"), kept))
    sections.append("## Limits\n\n" + bullets(limits(spec)))
    if proven:
        sections.append("## What was proven, and how\n\n" + shown(spec, proven))
    if spec.links:
        sections.append("## Links\n\n" + bullets(f"{name}: <{url}>" for name, url in spec.links.items()))
    return "\n\n".join(sections) + "\n"


def operation(each: Operation) -> str:
    """Return what there is to say about an operation."""
    title = f"[{each.title}]({each.doc})" if each.doc else each.title
    facts = [
        f"serves {', '.join(f'`{purpose}`' for purpose in each.serves) or 'no purpose'}",
        *([f"needs {', '.join(f'`{name}`' for name in each.needs)}"] if each.needs else []),
        *([f"at most {format_duration(each.max_length)}"] if each.max_length is not None else []),
        *(["names the regions that stay allowed"] if each.regions == "allowed" else []),
        *([] if each.lapses else ["does not go away at its end: the worker lifts it"]),
    ]
    return f"### `{each.name}`\n\n{title}: {'; '.join(facts)}."


def settings(spec: VendorSpec) -> str:
    """Return the table of an account's keys, and which of them exclude each other."""
    text = table(("key", "", "meaning"), ((f"`{one.name}`", marks(one), one.help) for one in spec.settings))
    groups = " or ".join(" and ".join(f"`{name}`" for name in group) for group in spec.one_of)
    return f"{text}\n\nExactly one of: {groups}." if groups else text


def marks(one: Setting) -> str:
    """Return what is special about a setting."""
    found = [word for word, so in (("required", one.required), ("secret", one.secret)) if so]
    default = (
        []
        if one.default is None
        else [f"default `{str(one.default).lower() if isinstance(one.default, bool) else one.default}`"]
    )
    return ", ".join([*found, *([] if one.type == "string" else [one.type]), *default])


def windows(quotas: Sequence[Quota]) -> str:
    """Return a quota's windows."""
    return ", ".join(f"{quota.limit} in {format_duration(quota.window)}" for quota in quotas)


def charged(spec: VendorSpec, quota: str) -> str:
    """Return the operations that count against a quota."""
    return ", ".join(f"`{each.name}`" for each in spec.operations.values() if quota in each.charges)


def limits(spec: VendorSpec) -> Iterator[str]:
    """Yield what the vendor cannot do, and what is particular about how it does the rest."""
    cannot = [f"`{purpose}`" for purpose in PURPOSES if not spec.can(purpose)]
    yield f"No operation serves {', '.join(cannot)}." if cannot else "Every purpose is served."
    yield "A ban also ends the running broadcast." if spec.forbid_cuts else "A ban ends no running broadcast."
    if spec.asynchronous:
        under_way = ", ".join(f"`{purpose}`" for purpose in spec.asynchronous)
        yield f"Acknowledged before it is in force: {under_way}."
    if spec.endpoint:
        yield f"Requests go to `{spec.endpoint}`, or to an account's own `endpoint`."


def shown(spec: VendorSpec, proven: Mapping[str, Any]) -> str:
    """Return the table of proofs, and what stays open."""
    rows = (
        (f"`{name}`", *("yes" if name in proven.get(way, ()) else NONE for way in WAYS))
        for name in spec.operations
    )
    parts = [table(("operation", *WAYS.values()), rows)]
    answers = f"`tests/vendors/{spec.name}/contract.toml`"
    parts.append(
        "Every operation also got every documented code, every odd answer and every failure on the way, over "
        f"real sockets, and the worker did what is right next: {answers}, `tests/vendors/test_contract.py`."
    )
    if "logins" in proven:
        parts.append("How an account proves who it is:\n\n" + table(LOGIN, map(login, proven["logins"])))
    if proven.get("open"):
        without = "What was not tried:" if spec.gate else "What nobody can prove without an account:"
        parts.append(f"{without}\n\n{bullets(proven['open'])}")
    return "\n\n".join(parts)


LOGIN = ("login", "settings", "vendor's own SDK", "simulator", "published example")


def login(one: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a row about one way in which an account proves who it is: the tests that show it."""
    settings = ", ".join(f"`{name}`" for name in one["settings"])
    shown = (f"`{one[key]}`" if key in one else NONE for key in ("simulator", "vector"))
    return one["name"], settings, "yes" if "sdk" in one else NONE, *shown


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(re.sub(r"\|", r"\\|", cell) for cell in line) + " |" for line in lines)


def bullets(lines: Iterable[str]) -> str:
    """Return a Markdown list."""
    return "\n".join(f"- {line}" for line in lines)


def main() -> None:
    """Write what is not as it should be, and say so."""
    for path, text in files().items():
        place = ROOT / path
        if not place.exists() or place.read_text("utf-8") != text:
            place.write_text(text, "utf-8")
            print(path)


if __name__ == "__main__":
    main()
