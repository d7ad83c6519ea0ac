"""ACS3-HMAC-SHA256, Alibaba Cloud's signature V3, as a pure function.

https://www.alibabacloud.com/help/en/sdk/product-overview/v3-request-structure-and-signature
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256

from worker.vendors.reading import utc_text
from worker.words import Millis

_ALGORITHM = "ACS3-HMAC-SHA256"


@dataclass(frozen=True, slots=True)
class Credentials:
    """An access key; ``security_token`` only where it is a temporary one (STS)."""

    access_key_id: str
    access_key_secret: str = field(repr=False)
    security_token: str = field(default="", repr=False)


def sign(
    *,
    host: str,
    query: str,
    action: str,
    version: str,
    credentials: Credentials,
    now: Millis,
    nonce: str,
) -> Mapping[str, str]:
    """Return the headers of a signed POST to ``/`` with an empty body; all but ``authorization`` are signed.

    ``query`` is the canonical query string, and must go over the wire as it is. ``host`` carries a port
    where it is not the usual one. The vendor takes a nonce once, and a date within 15 minutes of its own.
    """
    empty = sha256(b"").hexdigest()
    headers = {
        "host": host,
        "x-acs-action": action,
        "x-acs-content-sha256": empty,
        "x-acs-date": utc_text(now, round_up=False),
        "x-acs-signature-nonce": nonce,
        "x-acs-version": version,
    }
    if credentials.security_token:
        headers["x-acs-security-token"] = credentials.security_token
    names = sorted(headers)
    canonical_headers = "".join(f"{name}:{headers[name].strip()}\n" for name in names)
    canonical = "\n".join(("POST", "/", query, canonical_headers, ";".join(names), empty))
    text = f"{_ALGORITHM}\n{sha256(canonical.encode()).hexdigest()}"
    signature = hmac.new(credentials.access_key_secret.encode(), text.encode(), sha256).hexdigest()
    authorization = (
        f"{_ALGORITHM} Credential={credentials.access_key_id},"
        f"SignedHeaders={';'.join(names)},Signature={signature}"
    )
    return headers | {"authorization": authorization}
