"""Huawei Cloud Live: ``block_once`` cuts, ``block`` forbids up to a time, ``unblock`` lifts."""

import re
from copy import copy
from dataclasses import replace
from typing import ClassVar

from worker.core.outcome import Outcome, Refused, Unreachable
from worker.vendors.base import Account, LoggedIn, Page, Request, Response, VendorSpec, address
from worker.vendors.huawei import api, iam
from worker.vendors.huawei.sign import Draft, Keys, sign
from worker.vendors.reading import percent
from worker.words import Call, Millis

_FRESH: Millis = 60_000
"""A token that is refused so soon is not too old: it is of another region, or its user lost a right."""


class Huawei:
    """The adapter for one account: signs with an access key pair, permanent or temporary, or logs in at IAM.

    Raises ValueError where there is neither a region nor an endpoint, or where a setting holds what
    cannot stand in a header, such as a line end from a mounted file.
    """

    code: ClassVar[str] = "huawei"
    whole_lists: ClassVar[tuple[str, ...]] = ("list_blocks",)

    def __init__(self, spec: VendorSpec, account: Account) -> None:
        for name in ("project_id", "access_key", "secret_key", "security_token"):
            if not re.fullmatch(r"[!-~]*", account.text(name)):
                raise ValueError(f"{name}: expected ASCII without spaces and line ends")
        self._endpoint = spec.endpoint_for(account)
        self._host = self._endpoint.partition("://")[2]
        self._project = account.text("project_id")
        self._keys = Keys(*(account.text(name) for name in ("access_key", "secret_key", "security_token")))
        self._longest = {name: operation.max_length or 0 for name, operation in spec.operations.items()}
        self._user: iam.User | None = None
        self._token: iam.Token | None = None
        if account.text("iam.user"):
            if self._keys.security_token:
                raise ValueError("security_token: belongs to access_key and secret_key, not to iam")
            user, password, domain = (account.text(f"iam.{name}") for name in ("user", "password", "domain"))
            self._user = iam.User(user, password, domain, self._project)
            self._iam = address(account.text("iam.endpoint"), account, "iam.endpoint")

    def login(self, now: Millis) -> Request | None:  # noqa: ARG002 - a password is not dated
        """Return the request for a token, where the account has a user in place of keys."""
        return iam.ask(self._iam, self._user) if self._user is not None else None

    def logged_in(self, response: Response, now: Millis) -> LoggedIn | Outcome:
        """Return an adapter whose calls carry the token that IAM gave, or why it gave none."""
        token = iam.read(response, now)
        if not isinstance(token, iam.Token):
            return token
        return LoggedIn(self._with(token), token.renew_at, token.until)

    def logged_out(self, response: Response) -> bool:
        """Return whether the gateway does not take the token: too old, of another region, or spoilt."""
        return response.status == 401 and api.is_gateways(response)  # noqa: PLR2004 - Unauthorized

    def request(self, call: Call, now: Millis, nonce: str) -> Request:  # noqa: ARG002 - nothing here takes one
        """Return the signed request for a call. Raises ValueError as the protocol says."""
        return self._signed(self._draft(call, now), now)

    def list_all(self, call: Call, now: Millis, nonce: str) -> Request:  # noqa: ARG002 - nothing here takes one
        """Return the signed request for a page of a domain's block list."""
        return self._signed(api.all_blocks(call), now)

    def read_all(self, call: Call, response: Response, now: Millis) -> Page | Outcome:
        """Return a page of a domain's block list, or why there is none."""
        return api.read_all_blocks(call, response, now)

    def _signed(self, draft: Draft, now: Millis) -> Request:
        draft = replace(draft, path=f"/v1/{percent(self._project)}{draft.path}")
        headers = {"content-type": "application/json", "host": self._host}
        if self._user is None:
            headers = sign(draft, headers | {"x-project-id": self._project}, self._keys, now)
        elif self._token is not None:
            headers["x-auth-token"] = self._token.text
        else:
            raise ValueError("the account has to log in first")
        url = f"{self._endpoint}{draft.path}" + (f"?{draft.query}" if draft.query else "")
        return Request(draft.method, url, headers, draft.content)

    def read(self, call: Call, response: Response, now: Millis) -> Outcome:
        """Return what an answer means for a call."""
        match call.operation:
            case "list_blocks":
                outcome = api.read_blocks(call, response, now)
            case "list_online":
                outcome = api.read_online(call, response, now)
            case _:
                outcome = api.read_done(call, response, now)
        old = self._token is not None and now - self._token.since > _FRESH
        if old and isinstance(outcome, Refused) and outcome.error == "auth" and self.logged_out(response):
            return Unreachable(outcome.wire, "the token was no longer taken: another one is fetched")
        return outcome

    def shared(self, call: Call) -> str | None:  # noqa: ARG002 - the same for each
        """Return None: a read asks for one stream, so that it needs one page of the generous read quota."""
        return None

    def _with(self, token: iam.Token) -> "Huawei":
        """Return this adapter, with a token that its calls carry."""
        admitted = copy(self)
        admitted._token = token  # noqa: SLF001 - one of our own
        return admitted

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
