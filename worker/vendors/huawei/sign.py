"""SDK-HMAC-SHA256, the signature of Huawei Cloud's API gateway, as pure functions.

https://support.huaweicloud.com/intl/en-us/devg-apisign/api-sign-algorithm-002.html and the pages after it.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from urllib.parse import unquote

from worker.vendors.reading import percent
from worker.words import Millis

_ALGORITHM = "SDK-HMAC-SHA256"


@dataclass(frozen=True, slots=True)
class Keys:
    """An access key pair, with the token that temporary ones come with; ``repr`` shows none of them."""

    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    security_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Draft:
    """A request before it is signed; ``query`` is sorted and percent-encoded by RFC 3986."""

    method: str
    path: str = field(repr=False)
    query: str = field(default="", repr=False)
    content: bytes = field(default=b"", repr=False)


def sign(draft: Draft, headers: Mapping[str, str], keys: Keys, now: Millis) -> dict[str, str]:
    """Return the headers to send: those given (lower-case names, ``host`` among them), dated and signed.

    All of them are signed. The gateway takes a date up to 15 minutes off, so that each request is
    signed anew.
    """
    date = datetime.fromtimestamp(now // 1000, UTC).strftime("%Y%m%dT%H%M%SZ")
    token = {"x-security-token": keys.security_token} if keys.security_token else {}
    signed = {**headers, **token, "x-sdk-date": date}
    digest = sha256(canonical_request(draft, signed).encode()).hexdigest()
    signature = hmac.new(keys.secret_key.encode(), f"{_ALGORITHM}\n{date}\n{digest}".encode(), sha256)
    names = ";".join(sorted(signed))
    return signed | {
        "authorization": f"{_ALGORITHM} Access={keys.access_key}, "
        f"SignedHeaders={names}, Signature={signature.hexdigest()}"
    }


def canonical_request(draft: Draft, headers: Mapping[str, str]) -> str:
    """Return the text whose hash is signed. Only here does the path end in a slash."""
    path = "/".join(percent(unquote(segment)) for segment in draft.path.split("/"))
    return "\n".join(
        [
            draft.method,
            path if path.endswith("/") else f"{path}/",
            draft.query,
            *(f"{name}:{headers[name].strip()}" for name in sorted(headers)),
            "",
            ";".join(sorted(headers)),
            sha256(draft.content).hexdigest(),
        ]
    )
