"""Both authentications of CDNetworks (and Wangsu) as pure functions.

https://documents.cdnetworks.com/document/api-doc/api-key-authentication and
https://documents.cdnetworks.com/document/api-doc/ak-sk-authentication
"""

import hmac
from base64 import b64encode
from email.utils import formatdate
from hashlib import sha1, sha256

from worker.words import Millis

_ALGORITHM = "CNC-HMAC-SHA256"


def api_key_headers(*, username: str, api_key: str, now: Millis) -> dict[str, str]:
    """Return ``date`` and ``authorization`` for an account name and its API key.

    HTTP Basic, whose password is an HMAC-SHA1 of the date. Neither path nor body is signed: only TLS
    protects them.
    """
    date = formatdate(now // 1000, usegmt=True)
    password = b64encode(hmac.new(api_key.encode(), date.encode(), sha1).digest()).decode()
    basic = b64encode(f"{username}:{password}".encode()).decode()
    return {"date": date, "authorization": f"Basic {basic}"}


def access_key_headers(
    *, host: str, path: str, content_type: str, content: bytes, access_key: str, secret_key: str, now: Millis
) -> dict[str, str]:
    """Return the headers that sign a POST with an access key, besides ``host`` and ``content-type``.

    These are signed, and must go over the wire as they are given here. The vendor takes a timestamp
    within 5 minutes of its own, and each signature only once in that time.
    """
    timestamp = str(now // 1000)
    signed = {"content-type": content_type, "host": host}
    names = ";".join(signed)
    lines = "".join(f"{name}:{value.lower()}\n" for name, value in signed.items())
    # The third line is the query, which a POST has none of.
    canonical = "\n".join(("POST", path, "", lines, names, sha256(content).hexdigest()))
    text = "\n".join((_ALGORITHM, timestamp, sha256(canonical.encode()).hexdigest()))
    signature = hmac.new(secret_key.encode(), text.encode(), sha256).hexdigest()
    proof = f"Credential={access_key}, SignedHeaders={names}, Signature={signature}"
    return {
        "x-cnc-accesskey": access_key,
        "x-cnc-timestamp": timestamp,
        "x-cnc-auth-method": "AKSK",
        "authorization": f"{_ALGORITHM} {proof}",
    }


def once(nonce: str) -> bytes:
    """Return white space to follow a JSON body, another one for another nonce.

    The signature has no nonce of its own and counts whole seconds: without this, the same request again
    within a second would carry the same signature, and be refused as a replay.
    """
    bits = int.from_bytes(sha256(nonce.encode()).digest()[:3])
    return f"{bits:024b}".translate({ord("0"): " ", ord("1"): "\t"}).encode()
