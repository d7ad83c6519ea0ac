"""An account, a stream and answers, for the tests of this vendor."""

import json
from functools import cache
from typing import Any

from worker.vendors import load_spec, make
from worker.vendors.base import Account, Response, Vendor
from worker.words import Call, Millis, Purpose, Target

SECRET = "SKEXAMPLE"
TOKEN = "STSEXAMPLE"
NOW: Millis = 1_795_341_900_000
"""2026-11-22T10:05:00Z."""
UNTIL: Millis = NOW + 600_001
"""A millisecond after 10:15:00, so 10:15:01 in whole seconds."""

PURPOSES: dict[str, Purpose] = {
    "forbid": "forbid",
    "resume": "lift",
    "set_region_block": "block_regions",
    "delete_region_block": "unblock_regions",
    "describe_region_block": "read_regions",
    "list_blocked": "read_forbid",
    "list_online": "read_live",
    "stream_state": "read_live",
}


@cache
def vendor(endpoint: str | None = None, **settings: str) -> Vendor:
    keys = {"access_key_id": "AKEXAMPLE", "access_key_secret": SECRET}
    return make(load_spec("aliyun"), Account("ali", "aliyun", keys | settings, endpoint))


def call(
    operation: str,
    *,
    purpose: Purpose | None = None,
    until: Millis | None = UNTIL,
    regions: tuple[str, ...] = ("KR", "CN"),
    stream: str = "room42",
    app: str = "live",
    push: str | None = "push.acme.example",
    play: str | None = "play.acme.example",
    cursor: str | None = None,
) -> Call:
    return Call(
        "call-1",
        purpose or PURPOSES[operation],
        operation,
        Target("ali", app, stream, push, play),
        until=until,
        regions=regions,
        cursor=cursor,
    )


def answer(body: Any, status: int = 200, **headers: str) -> Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Response(status, {name.replace("_", "-"): value for name, value in headers.items()}, content)
