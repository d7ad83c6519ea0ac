"""The least signing that drives a simulator, and a clock that stands until it is moved."""

import base64
import hashlib
import hmac
import itertools
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import httpx

KEY, SECRET = "sandbox-key", "sandbox-secret"
PUSH, PLAY = "push.sandbox.example", "play.sandbox.example"
START = 1_795_000_000_000


class Clock:
    """Shows ``now`` milliseconds."""

    def __init__(self, now: int = START) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


def utc(at: int, form: str = "%Y-%m-%dT%H:%M:%SZ") -> str:
    return datetime.fromtimestamp(at / 1000, UTC).strftime(form)


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def mac(secret: str, text: str) -> str:
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


def encode(params: Mapping[str, Any]) -> str:
    return "&".join(
        f"{quote(k, safe='-_.~')}={quote(str(v), safe='-_.~')}" for k, v in sorted(params.items())
    )


def lines(headers: Mapping[str, str]) -> tuple[str, str]:
    names = sorted(headers)
    return "".join(f"{name}:{headers[name]}\n" for name in names), ";".join(names)


class Signer:
    """Calls one simulator as one account; ``now`` is the moment signatures carry."""

    def __init__(
        self, http: httpx.Client, url: str, clock: Clock, key: str = KEY, secret: str = SECRET
    ) -> None:
        self.http, self.url, self.clock, self.key, self.secret = http, url, clock, key, secret
        self.host = urlsplit(url).netloc
        self.nonces = itertools.count()

    def huawei(
        self, method: str, path: str, params: Mapping[str, Any], extra: Mapping[str, str] | None = None
    ) -> httpx.Response:
        uri = f"/v1/sandbox-project/{path}"
        query, body = (
            ("", json.dumps(params).encode()) if method in {"POST", "PUT"} else (encode(params), b"")
        )
        headers = {
            "content-type": "application/json",
            "host": self.host,
            "x-project-id": "sandbox-project",
            "x-sdk-date": utc(self.clock.now, "%Y%m%dT%H%M%SZ"),
            **(extra or {}),
        }
        canonical, signed = lines(headers)
        request = f"{method}\n{uri}/\n{query}\n{canonical}\n{signed}\n{sha(body)}"
        signature = mac(self.secret, f"SDK-HMAC-SHA256\n{headers['x-sdk-date']}\n{sha(request.encode())}")
        headers["Authorization"] = (
            f"SDK-HMAC-SHA256 Access={self.key}, SignedHeaders={signed}, Signature={signature}"
        )
        return self.http.request(method, f"{self.url}{uri}?{query}", headers=headers, content=body)

    def aliyun(
        self, action: str, params: Mapping[str, Any], extra: Mapping[str, str] | None = None
    ) -> httpx.Response:
        headers = {
            "host": self.host,
            "x-acs-action": action,
            "x-acs-content-sha256": sha(b""),
            "x-acs-date": utc(self.clock.now),
            "x-acs-signature-nonce": f"nonce-{next(self.nonces)}",
            "x-acs-version": "2016-11-01",
            **(extra or {}),
        }
        canonical, signed = lines(headers)
        request = f"POST\n/\n{encode(params)}\n{canonical}\n{signed}\n{sha(b'')}"
        signature = mac(self.secret, f"ACS3-HMAC-SHA256\n{sha(request.encode())}")
        headers["Authorization"] = (
            f"ACS3-HMAC-SHA256 Credential={self.key},SignedHeaders={signed},Signature={signature}"
        )
        # As the vendor's SDK sends it: "+" for a space, though the signature has %20.
        return self.http.post(f"{self.url}/?{urlencode(params)}", headers=headers)

    def cdn(self, path: str, params: Mapping[str, Any]) -> httpx.Response:
        date = format_datetime(datetime.fromtimestamp(self.clock.now // 1000, UTC), usegmt=True)
        digest = hmac.digest(self.secret.encode(), date.encode(), hashlib.sha1)
        password = base64.b64encode(digest).decode()
        login = base64.b64encode(f"{self.key}:{password}".encode()).decode()
        headers = {"Authorization": f"Basic {login}", "Date": date, "Content-Type": "application/json"}
        return self.http.post(f"{self.url}{path}", headers=headers, content=json.dumps(params).encode())

    def cdn_keys(self, path: str, params: Mapping[str, Any]) -> httpx.Response:
        body, timestamp = json.dumps(params).encode(), str(self.clock.now // 1000)
        headers = {"content-type": "application/json", "host": self.host}
        canonical, signed = lines(headers)
        request = f"POST\n{path}\n\n{canonical.lower()}\n{signed}\n{sha(body)}"
        signature = mac(self.secret, f"CNC-HMAC-SHA256\n{timestamp}\n{sha(request.encode())}")
        headers |= {
            "x-cnc-accessKey": self.key,
            "x-cnc-timestamp": timestamp,
            "Authorization": f"CNC-HMAC-SHA256 Credential={self.key}, SignedHeaders={signed}, "
            f"Signature={signature}",
        }
        return self.http.post(f"{self.url}{path}", headers=headers, content=body)
