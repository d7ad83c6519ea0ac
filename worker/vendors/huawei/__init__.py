"""Huawei Cloud Live: ``block_once`` cuts, ``block`` forbids up to a time, ``unblock`` lifts."""

import re
from dataclasses import replace
from typing import ClassVar

from worker.core.outcome import Outcome
from worker.vendors.base import Account, Request, Response, VendorSpec
from worker.vendors.huawei import api
from worker.vendors.huawei.sign import Draft, Keys, sign
from worker.vendors.reading import percent
from worker.words import Call, Millis


class Huawei:
    """The adapter for one account; signs with an access key pair, permanent or temporary.

    Raises ValueError where there is neither a region nor an endpoint, or where a setting holds what
    cannot stand in a header, such as a line end from a mounted file.
    """

    code: ClassVar[str] = "huawei"

    def __init__(self, spec: VendorSpec, account: Account) -> None:
        for name in ("project_id", "access_key", "secret_key", "security_token"):
            if not re.fullmatch(r"[!-~]*", account.text(name)):
                raise ValueError(f"{name}: expected ASCII without spaces and line ends")
        self._endpoint = spec.endpoint_for(account)
        self._host = self._endpoint.partition("://")[2]
        self._project = account.text("project_id")
        self._keys = Keys(*(account.text(name) for name in ("access_key", "secret_key", "security_token")))
        self._longest = {name: operation.max_length or 0 for name, operation in spec.operations.items()}

    def request(self, call: Call, now: Millis, nonce: str) -> Request:  # noqa: ARG002 - nothing here takes one
        """Return the signed request for a call. Raises ValueError as the protocol says."""
        draft = self._draft(call, now)
        draft = replace(draft, path=f"/v1/{percent(self._project)}{draft.path}")
        headers = {"content-type": "application/json", "host": self._host, "x-project-id": self._project}
        url = f"{self._endpoint}{draft.path}" + (f"?{draft.query}" if draft.query else "")
        return Request(draft.method, url, sign(draft, headers, self._keys, now), draft.content)

    def read(self, call: Call, response: Response, now: Millis) -> Outcome:
        """Return what an answer means for a call."""
        match call.operation:
            case "list_blocks":
                return api.read_blocks(call, response, now)
            case "list_online":
                return api.read_online(call, response, now)
            case _:
                return api.read_done(call, response, now)

    def shared(self, call: Call) -> str | None:  # noqa: ARG002 - the same for each
        """Return None: a read asks for one stream, so that it needs one page of the generous read quota."""
        return None

    def _draft(self, call: Call, now: Millis) -> Draft:
        match call.operation:
            case "block_once":
                return api.block_once(call)
            case "block":
                return api.block(call, self._end(call, now))
            case "update_block":
                return api.update_block(call, self._end(call, now))
            case "unblock":
                return api.unblock(call)
            case "list_blocks":
                return api.list_blocks(call)
            case "list_online":
                return api.list_online(call)
            case other:
                raise ValueError(f"huawei has no operation {other}")

    def _end(self, call: Call, now: Millis) -> Millis:
        """Return the end to ask for: never beyond the longest the vendor takes, whole seconds included."""
        last = (now + self._longest[call.operation]) // 1000 * 1000
        return last if call.until is None else min(call.until, last)
