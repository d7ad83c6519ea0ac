"""Accounts, a stream and answers, for the tests of this vendor."""

import json
from functools import cache
from typing import Any

from worker.vendors import load_spec, make
from worker.vendors.base import Account, Response, Vendor
from worker.words import Call, Millis, Purpose, Target

API_KEY = {"username": "username", "api_key": "apiKey"}
ACCESS_KEY = {"access_key": "AKEXAMPLE", "secret_key": "SKEXAMPLE"}
NOW: Millis = 1_795_341_900_000
"""2026-11-22T10:05:00Z."""
UNTIL: Millis = NOW + 600_001
"""A millisecond after 10:15:00, so 1795342501 in whole seconds."""

PURPOSES: dict[str, Purpose] = {
    "forbid": "forbid",
    "stop": "cut",
    "resume": "lift",
    "forbid_query": "read_forbid",
}


@cache
def vendor(login: str = "access_key", endpoint: str | None = None) -> Vendor:
    settings = ACCESS_KEY if login == "access_key" else API_KEY
    return make(load_spec("cdnetworks"), Account("cdn", "cdnetworks", settings, endpoint))


def call(
    operation: str,
    *,
    purpose: Purpose | None = None,
    until: Millis | None = UNTIL,
    stream: str = "room42",
    app: str = "live",
    push: str | None = "push.acme.example",
) -> Call:
    target = Target("cdn", app, stream, push, "play.acme.example")
    return Call("call-1", purpose or PURPOSES[operation], operation, target, until=until)


def answer(body: Any, status: int = 200, **headers: str) -> Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Response(status, {name.replace("_", "-"): value for name, value in headers.items()}, content)
