"""Alibaba Cloud ApsaraVideo Live."""

from typing import Any, ClassVar
from urllib.parse import urlsplit

from worker.core.outcome import Outcome, Wire
from worker.vendors.aliyun import api
from worker.vendors.aliyun.sign import Credentials, sign
from worker.vendors.base import Account, Page, Request, Response, VendorSpec
from worker.vendors.reading import by_status, json_object, query, token
from worker.words import Call, Millis

_REGIONAL = ("ap-southeast-1", "eu-central-1")
"""The regions whose domains have an endpoint of their own, says the vendor's page of endpoints."""


class Aliyun:
    """The adapter of one account."""

    code: ClassVar[str] = "aliyun"
    whole_lists: ClassVar[tuple[str, ...]] = ("list_blocked", "describe_region_block")

    def __init__(self, spec: VendorSpec, account: Account) -> None:
        self._operations = spec.operations
        region = account.text("region")
        self._endpoint = (
            f"https://live.{region}.aliyuncs.com"
            if region in _REGIONAL and not account.endpoint
            else spec.endpoint_for(account)
        )
        self._credentials = Credentials(
            account.text("access_key_id"),
            account.text("access_key_secret"),
            account.text("security_token"),
        )

    def request(self, call: Call, now: Millis, nonce: str) -> Request:
        """Return the signed request; its query string is the very one that was signed.

        Raises ValueError for a target without the domain the operation needs, a wildcard name, an end
        that has passed, or a region block without regions.
        """
        ask, _ = api.OPERATIONS[call.operation]
        return self._signed(*ask(call, self._operations[call.operation], now), now, nonce)

    def _signed(self, action: str, parameters: dict[str, str], now: Millis, nonce: str) -> Request:
        text = query(parameters)
        signed = sign(
            host=urlsplit(self._endpoint).netloc,
            query=text,
            action=action,
            version=api.VERSION,
            credentials=self._credentials,
            now=now,
            nonce=nonce,
        )
        return Request("POST", f"{self._endpoint}/?{text}", {**signed, "accept": "application/json"})

    def read(self, call: Call, response: Response, now: Millis) -> Outcome:
        """Return what an answer means: its ``Code`` decides, then the status, then its content."""
        body = _succeeded(call, response, now)
        if not isinstance(body, dict):
            return body
        _, read = api.OPERATIONS[call.operation]
        return read(call, body, _wire(response, body))

    def list_all(self, call: Call, now: Millis, nonce: str) -> Request:
        """Return the signed request for a page of a domain's list."""
        ask, _ = api.WHOLE[call.operation]
        return self._signed(*ask(call, self._operations[call.operation], now), now, nonce)

    def read_all(self, call: Call, response: Response, now: Millis) -> Page | Outcome:
        """Return a page of a domain's list, or why there is none."""
        body = _succeeded(call, response, now)
        if not isinstance(body, dict):
            return body
        _, read = api.WHOLE[call.operation]
        return read(call, body, _wire(response, body))

    def shared(self, call: Call) -> str | None:
        """Return a page of a domain's banned streams: it answers for every stream of the domain."""
        domain = call.target.play_domain
        return f"{domain} {call.cursor or 1}" if call.operation == "list_blocked" and domain else None


def _succeeded(call: Call, response: Response, now: Millis) -> dict[str, Any] | Outcome:
    """Return the body of a success, or what an answer that is none means."""
    body = json_object(response)
    if body is None:
        return by_status(response, _wire(response, {}), now)
    code = body.get("Code")
    if code is None and 200 <= response.status < 300:  # noqa: PLR2004 - the HTTP success class
        return body
    wire = _wire(response, body)
    known = api.by_code(call, code, response, wire, now) if isinstance(code, str) else None
    return known or by_status(response, wire, now)


def _wire(response: Response, body: dict[str, object]) -> Wire:
    request_id = token(body.get("RequestId")) or token(response.headers.get("x-acs-request-id"))
    return Wire(response.status, token(body.get("Code")), request_id)
