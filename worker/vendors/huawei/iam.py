"""The token of Huawei Cloud's IAM, which a call carries in place of a signature.

https://support.huaweicloud.com/intl/en-us/api-iam/iam_30_0001.html
"""

import json
from dataclasses import dataclass, field

from worker.core.outcome import Outcome, Refused, Unreachable, Wire
from worker.vendors.base import Request, Response
from worker.vendors.reading import json_object, token, utc_millis
from worker.words import Millis

LONGEST: Millis = 86_400_000
"""A token is good for 24 hours, says the page; the answer names the moment."""
BEFORE: Millis = 3_600_000
"""How long before its end a token is renewed; of a shorter one, after half its time."""


@dataclass(frozen=True, slots=True)
class User:
    """An IAM user, the account it belongs to, and the project its token is for."""

    name: str = field(repr=False)
    password: str = field(repr=False)
    domain: str = field(repr=False)
    project_id: str


@dataclass(frozen=True, slots=True)
class Token:
    """A token and its time; ``repr`` does not show it."""

    text: str = field(repr=False)
    since: Millis
    until: Millis

    @property
    def renew_at(self) -> Millis:
        """When another one should be fetched."""
        return max(self.until - BEFORE, (self.since + self.until) // 2)


def ask(endpoint: str, user: User) -> Request:
    """Return the request for a token that is good for one project."""
    password = {"user": {"name": user.name, "password": user.password, "domain": {"name": user.domain}}}
    identity = {"methods": ["password"], "password": password}
    body = {"auth": {"identity": identity, "scope": {"project": {"id": user.project_id}}}}
    headers = {"content-type": "application/json", "host": endpoint.partition("://")[2]}
    return Request("POST", f"{endpoint}/v3/auth/tokens", headers, json.dumps(body).encode("ascii"))


def read(response: Response, now: Millis) -> Token | Outcome:
    """Return the token that an answer holds (in a header), or why there is none.

    What is not a refusal of user, password, account or project may pass: nothing has been done yet.
    """
    body = json_object(response) or {}
    wire = Wire(response.status, _code(body), token(response.headers.get("x-request-id")))
    text = response.headers.get("x-subject-token", "")
    if response.status == 201 and text.isascii() and text.isprintable() and text:  # noqa: PLR2004 - Created
        told = body.get("token")
        until = utc_millis(told.get("expires_at")) if isinstance(told, dict) else None
        return Token(text, now, min(until or now + LONGEST, now + LONGEST))
    if response.status in (400, 401, 403, 404):
        return Refused("auth", wire, "IAM does not accept the user, its password, account or project")
    return Unreachable(wire, "IAM gave no token")


def _code(body: dict[str, object]) -> str | None:
    """Return the code of an error, which IAM writes in one of two forms."""
    error = body.get("error")
    return token(body.get("error_code") or (error.get("code") if isinstance(error, dict) else None))
