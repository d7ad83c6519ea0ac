"""CDNetworks, and Wangsu, which publishes the same API under another host."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, TypeVar
from urllib.parse import urlsplit

from worker.core.outcome import Outcome, Refused, Throttled, Wire
from worker.vendors.base import Account, Page, Request, Response, VendorSpec
from worker.vendors.cdnetworks import api
from worker.vendors.cdnetworks.sign import access_key_headers, api_key_headers, once
from worker.vendors.reading import by_status, json_object, retry_after, token
from worker.words import Call, Millis

T = TypeVar("T")
Reader = Callable[[Call, Mapping[str, Any], Wire, Millis], T]

_JSON = "application/json"
_NO_LOGIN = "the credentials are not accepted, or this host's clock is off: a signature holds for minutes"


class CDNetworks:
    """The adapter of one account, with an API key or an access key."""

    code: ClassVar[str] = "cdnetworks"
    whole_lists: ClassVar[tuple[str, ...]] = ("forbid_query",)

    def __init__(self, spec: VendorSpec, account: Account) -> None:
        self._operations = spec.operations
        self._account = account
        self._endpoint = spec.endpoint_for(account)

    def request(self, call: Call, now: Millis, nonce: str) -> Request:
        """Return the signed request. Its body is ASCII, so no charset can come between.

        Raises ValueError for a target without push domain, a push URL that is too long or would be cut
        short by the vendor, and an end that has passed.
        """
        ask, _ = api.OPERATIONS[call.operation]
        path, body = ask(call, self._operations[call.operation].max_length, now)
        content = json.dumps(body, separators=(",", ":")).encode("ascii")
        host, text = urlsplit(self._endpoint).netloc, self._account.text
        headers = {"accept": _JSON, "content-type": _JSON, "host": host}
        if text("api_key"):
            login = api_key_headers(username=text("username"), api_key=text("api_key"), now=now)
        else:
            content += once(nonce)
            login = access_key_headers(
                host=host,
                path=path,
                content_type=_JSON,
                content=content,
                access_key=text("access_key"),
                secret_key=text("secret_key"),
                now=now,
            )
        return Request("POST", f"{self._endpoint}{path}", headers | login, content)

    def read(self, call: Call, response: Response, now: Millis) -> Outcome:
        """Return what an answer means: its ``code`` decides, and behind it the status.

        The codes are documented for a success in HTTP; one that only repeats another status is a gateway's.
        """
        _, read = api.OPERATIONS[call.operation]
        return self._read(call, response, now, read)

    def list_all(self, call: Call, now: Millis, nonce: str) -> Request:
        """Return the request for a domain's bans, which is the same for one stream and for all."""
        return self.request(call, now, nonce)

    def read_all(self, call: Call, response: Response, now: Millis) -> Page | Outcome:
        """Return a domain's bans, or why there are none to be had."""
        return self._read(call, response, now, api.all_records)

    def _read(self, call: Call, response: Response, now: Millis, read: Reader[T]) -> T | Outcome:
        body = json_object(response) or {}
        request_id = token(response.headers.get("x-cnc-request-id"))
        wire = Wire(response.status, token(body.get("code")), request_id)
        code = api.code_of(body)
        succeeded = 200 <= response.status < 300  # noqa: PLR2004 - the HTTP success class
        if code == 0 and succeeded:
            return read(call, body, wire, now)
        if code and (succeeded or (code in api.CODES and code != response.status)):
            return api.by_code(call, code, wire)
        if api.is_limit(response):
            return Throttled(retry_after(response, now), wire, "over a limit of the account")
        outcome = by_status(response, wire, now)
        if isinstance(outcome, Refused) and outcome.error == "auth":
            return replace(outcome, detail=_NO_LOGIN)
        return outcome

    def shared(self, call: Call) -> str | None:
        """Return the domain for the query of its bans: one answer serves every stream of it."""
        return call.target.push_domain if call.operation == "forbid_query" else None
