"""nginx with the rtmp module: no vendor's cloud, but a server of one's own."""

import re
from dataclasses import replace
from typing import ClassVar

from worker.core.outcome import Outcome, Refused, Wire
from worker.vendors.base import Account, Request, Response, VendorSpec
from worker.vendors.nginx_rtmp import api
from worker.vendors.reading import by_status
from worker.words import Call, Millis

_PAGE = re.compile(r"(https?://(?:[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::\d{1,5})?)(/[!\"$->@-~]*)?", re.IGNORECASE)
_NOT_ALLOWED = "nginx does not let the worker in there, or the page is not what the setting says"


class NginxRtmp:
    """The adapter of one server."""

    code: ClassVar[str] = "nginx_rtmp"

    def __init__(self, spec: VendorSpec, account: Account) -> None:
        origin = spec.endpoint_for(account) if account.endpoint else None
        self._control = _page(account, "control_url", origin)
        self._stat = _page(account, "stat_url", origin)
        self._server = _number(account, "server", 0, 999)
        self._workers = _number(account, "workers", 1, 256)

    def request(self, call: Call, now: Millis, nonce: str) -> Request:  # noqa: ARG002 - nothing is signed
        """Return the request; each on a connection of its own, so that any of nginx's processes may answer.

        Raises ValueError for a stream or application that cannot be named to nginx.
        """
        url = self._stat if call.operation == "stat" else self._control + api.drop(call, self._server)
        return Request("GET", url, {"connection": "close"})

    def read(self, call: Call, response: Response, now: Millis) -> Outcome:
        """Return what an answer means: success is told by the body alone."""
        wire = Wire(response.status)
        if response.status != 200:  # noqa: PLR2004 - OK, the only success there is
            outcome = by_status(response, wire, now)
            denied = isinstance(outcome, Refused) and response.status in (401, 403)
            return replace(outcome, detail=_NOT_ALLOWED) if denied else outcome
        if call.operation == "stat":
            return api.live(call, response, wire, now, self._server, self._workers)
        return api.dropped(response, wire)

    def shared(self, call: Call) -> str | None:
        """Return one name for all reads: the stat page shows every stream."""
        return "stat" if call.operation == "stat" else None


def _page(account: Account, setting: str, origin: str | None) -> str:
    """Return a page's address; an account's own endpoint takes the place of its scheme and host."""
    match = _PAGE.fullmatch(account.text(setting))
    if match is None:
        raise ValueError(f"{setting}: expected http://HOST:PORT/PATH, without a query")
    return (origin or match[1]) + (match[2] or "").rstrip("/")


def _number(account: Account, setting: str, least: int, most: int) -> int:
    text = account.text(setting) or str(least)
    if not re.fullmatch(r"\d{1,3}", text, re.ASCII) or not least <= int(text) <= most:
        raise ValueError(f"{setting}: expected a number from {least} to {most}")
    return int(text)
