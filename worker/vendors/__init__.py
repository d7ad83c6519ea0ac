"""The registry of vendors: names, what their ``vendor.toml`` says, and adapters made for an account.

In-tree vendors stand in a dict; others come as entry points of group ``moderation_worker.vendors``
(``name = "package:VendorClass"``). An adapter is imported when it is first asked for, and importing it
does nothing else. Its ``vendor.toml`` lies in its package::

    name = "huawei"                    # as in the registry
    title = "Huawei Cloud Live"
    summary = "One sentence."
    endpoint = "https://live.{region}.myhuaweicloud.com"     # optional; {SETTING} is filled in
    forbid_cuts = true                 # optional: a ban also ends the running broadcast
    asynchronous = ["block_regions"]   # optional: purposes still under way when acknowledged
    gate = true                        # optional: bans need no operation, the publish gate knows of them
    one_of = [["username", "api_key"], ["access_key", "secret_key"]]   # optional: exactly one group

    [links]                            # NAME = URL
    errors = "https://…"

    [settings.secret_key]              # a name with a dot, as "iam.user", stands in a mapping
    help = "One sentence."
    required = true                    # optional, false
    secret = true                      # optional, false
    type = "string"                    # optional: or "boolean"
    default = "…"                      # optional

    [operations.block]
    title = "Block a stream until a time"
    doc = "https://…"                  # optional: the vendor's page
    serves = ["forbid"]                # purposes (worker.words.Purpose)
    charges = ["block", "writes"]      # optional: quotas it counts against, else its own name
    max_length = "90d"                 # optional: the longest ban
    regions = "allowed"                # optional: a region block names those that may still watch
    lapses = false                     # optional: at its end it is still there, until it is lifted
    needs = ["push_domain"]            # optional: fields of the target

    [quotas]                           # of an operation, or shared; what has none is not limited
    block = "4000/60s"
    writes = ["10/5m", "500/1d"]

    [capacities.blacklist]             # optional: what the vendor keeps at most
    title = "Banned streams"
    takes = "forbid"                   # or "block_regions"
    limit = 10000
    per = "account"                    # or "domain": each has so many
    domain = "play_domain"             # the target's domain that it is counted by
    shown_by = "list_blocked"          # optional: the operation that tells how many there are
"""

import re
import tomllib
from collections import Counter
from dataclasses import replace
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.resources import files
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from worker.durations import parse_duration, parse_quota
from worker.vendors.base import BY_GATE, Account, Capacity, Operation, Setting, Vendor, VendorSpec
from worker.words import Millis, Purpose, Quota

GROUP = "moderation_worker.vendors"

_IN_TREE = {
    "aliyun": "worker.vendors.aliyun:Aliyun",
    "cdnetworks": "worker.vendors.cdnetworks:CDNetworks",
    "huawei": "worker.vendors.huawei:Huawei",
    "memory": "worker.vendors.memory:Memory",
    "nginx_rtmp": "worker.vendors.nginx_rtmp:NginxRtmp",
}


class UnknownVendor(ValueError):  # noqa: N818 - it reads as what it says where it is raised
    """No vendor has this name; the message lists those there are."""


def vendor_names() -> tuple[str, ...]:
    """Return the names of all vendors, in-tree and installed, in alphabetical order.

    Raises ValueError where an installed one takes a name that is taken.
    """
    return tuple(sorted(_registered()))


def load_spec(name: str) -> VendorSpec:
    """Return what a vendor's ``vendor.toml`` says.

    Raises UnknownVendor for a name that is none, and ValueError that names each wrong key of the file
    and what is expected there.
    """
    module = import_module(_entry_point(name).module)
    text = (files(module.__package__ or module.__name__) / "vendor.toml").read_text("utf-8")
    try:
        return parse_spec(name, text)
    except ValueError as error:
        raise ValueError(f"vendor.toml of {name}: {error}") from None


def make(spec: VendorSpec, account: Account) -> Vendor:
    """Return the adapter for an account.

    Raises ValueError, without a secret in it, where settings are missing or contradict each other.
    """
    defaults = {one.name: one.default for one in spec.settings if one.default is not None}
    account = replace(account, settings={**defaults, **account.settings})
    missing = [
        one.name
        for one in spec.settings
        if one.required and "." not in one.name and not account.text(one.name)
    ]
    if missing:
        raise ValueError(f"{', '.join(missing)}: expected a value")
    if spec.one_of:
        given = [group for group in spec.one_of if all(account.text(name) for name in group)]
        touched = [group for group in spec.one_of if any(account.text(name) for name in group)]
        if len(given) != 1 or len(touched) != 1:
            raise ValueError(
                f"expected exactly one of: {'; '.join(' + '.join(group) for group in spec.one_of)}"
            )
    vendor: Vendor = _entry_point(spec.name).load()(spec, account)
    return vendor


def parse_spec(name: str, text: str) -> VendorSpec:
    """Return what the text of a ``vendor.toml`` says. Raises ValueError as ``load_spec``."""
    try:
        file = _File.model_validate(tomllib.loads(text))
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise ValueError("; ".join(problems)) from None
    spec = VendorSpec(
        name=file.name,
        title=file.title,
        summary=file.summary,
        links=file.links,
        settings=tuple(Setting(name=key, **dict(value)) for key, value in file.settings.items()),
        operations={
            key: Operation(name=key, **dict(value) | {"charges": value.charges or (key,)})
            for key, value in file.operations.items()
        },
        quotas=file.quotas,
        one_of=file.one_of,
        endpoint=file.endpoint,
        forbid_cuts=file.forbid_cuts,
        asynchronous=file.asynchronous,
        capacities={key: Capacity(name=key, **dict(value)) for key, value in file.capacities.items()},
        gate=file.gate,
    )
    _check(name, spec)
    return spec


def _check(name: str, spec: VendorSpec) -> None:
    """Raise ValueError where parts of a file do not fit each other."""
    settings = {setting.name for setting in spec.settings}
    charged = {quota for operation in spec.operations.values() for quota in operation.charges}
    served = Counter(purpose for operation in spec.operations.values() for purpose in operation.serves)
    problems = [
        *([] if spec.name == name else [f'name: expected "{name}", as it is registered']),
        *(f"operations: {purpose} is served twice" for purpose, count in served.items() if count > 1),
        *(f"quotas.{quota}: no operation charges it" for quota in spec.quotas.keys() - charged),
        *(f"one_of: {key} is no setting" for group in spec.one_of for key in group if key not in settings),
        *(
            f"endpoint: {key} is no setting"
            for key in re.findall(r"{(.*?)}", spec.endpoint or "")
            if key not in settings
        ),
        *(f"settings.{key}: at most one dot" for key in settings if key.count(".") > 1),
        *(
            f"settings.{key}: {key.partition('.')[0]} is a setting of its own"
            for key in settings
            if key.partition(".")[0] in settings - {key}
        ),
        *(f"asynchronous: no operation serves {key}" for key in spec.asynchronous if key not in served),
        *(
            f"capacities.{one.name}.takes: no operation serves {one.takes}"
            for one in spec.capacities.values()
            if one.takes not in served
        ),
        *(
            f"capacities.{one.name}.shown_by: {one.shown_by} is no operation"
            for one in spec.capacities.values()
            if one.shown_by is not None and one.shown_by not in spec.operations
        ),
        *(
            f"operations.{one.name}.lapses: no operation serves {lift}"
            for one in spec.operations.values()
            for purpose, lift in (("forbid", "lift"), ("block_regions", "unblock_regions"))
            if not one.lapses and purpose in one.serves and lift not in served
        ),
        *(
            f"operations.{one.name}.regions: it serves no region block"
            for one in spec.operations.values()
            if one.regions == "allowed" and "block_regions" not in one.serves
        ),
        *(f"gate: an operation serves {key}" for key in BY_GATE if spec.gate and key in served),
        *(["gate: expected forbid_cuts = false beside it"] if spec.gate and spec.forbid_cuts else []),
        *(["gate: expected an operation that serves cut"] if spec.gate and "cut" not in served else []),
    ]
    if problems:
        raise ValueError("; ".join(problems))


@cache
def installed() -> tuple[EntryPoint, ...]:
    """Return the vendors of other distributions. They are looked for once: it takes some 15 ms."""
    return tuple(entry_points(group=GROUP))


def _registered() -> dict[str, EntryPoint]:
    """Return where each vendor's class is."""
    found = {name: EntryPoint(name, value, GROUP) for name, value in _IN_TREE.items()}
    for point in installed():
        if point.name in found:
            raise ValueError(
                f'vendor "{point.name}" of {point.value}: the name is {found[point.name].value}\'s'
            )
        found[point.name] = point
    return found


def _entry_point(name: str) -> EntryPoint:
    points = _registered()
    if name not in points:
        raise UnknownVendor(f'"{name}" is not a vendor ({", ".join(sorted(points))})')
    return points[name]


def _duration(value: Any) -> Any:
    return parse_duration(value) if isinstance(value, str) else value


def _quotas(value: Any) -> Any:
    texts = value if isinstance(value, list) else [value]
    return tuple(parse_quota(text) if isinstance(text, str) else text for text in texts)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class _Setting(_Part):
    help: str
    required: bool = False
    secret: bool = False
    type: Literal["string", "boolean"] = "string"
    default: str | bool | None = None


class _Operation(_Part):
    title: str
    doc: str = ""
    serves: tuple[Purpose, ...]
    charges: tuple[str, ...] = ()
    max_length: Annotated[Millis | None, BeforeValidator(_duration)] = None
    needs: tuple[Literal["push_domain", "play_domain"], ...] = ()
    lapses: bool = True
    regions: Literal["blocked", "allowed"] = "blocked"


class _Capacity(_Part):
    title: str
    takes: Literal["forbid", "block_regions"]
    limit: Annotated[int, Field(gt=0)]
    per: Literal["account", "domain"]
    domain: Literal["push_domain", "play_domain"]
    shown_by: str | None = None


class _File(_Part):
    name: str
    title: str
    summary: str
    endpoint: str | None = None
    forbid_cuts: bool = True
    asynchronous: tuple[Purpose, ...] = ()
    gate: bool = False
    one_of: tuple[tuple[str, ...], ...] = ()
    links: dict[str, str] = {}
    settings: dict[str, _Setting] = {}
    operations: dict[str, _Operation]
    quotas: dict[str, Annotated[tuple[Quota, ...], BeforeValidator(_quotas)]] = {}
    capacities: dict[str, _Capacity] = {}
