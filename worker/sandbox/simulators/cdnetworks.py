"""CDNetworks / Wangsu live broadcast, stream forbidding, as its documentation tells it.

Pages (documents.cdnetworks.com and wangsu.com, which publish the same API): QueryForbidLivestreamRecord
(fields, its error table, 10 calls in 5 minutes), promptstreamforbidden (what the writes mean), the
authentication pages of the API key (HTTP Basic over HMAC-SHA1) and of AK/SK (CNC-HMAC-SHA256), the API
overview (300 calls in 5 minutes in all), and the models of the official SDK for the three writes.

Documented nowhere, so chosen here: the answers to a refused login (401), a throttled call (429) and an
invalid write (HTTP 200, code 400, and 411 for a missing liveUrl); writes succeed with code ``"0"``;
the 500 writes a day are one account's, shared by forbid, stop and resume; the Date header of the
API key may be 5 minutes off; forbidding again replaces the end; resume of what is not forbidden and
stop of what is not live succeed; ``type`` is checked and makes no difference;
ended bans are not listed, and none is listed as ``[]``; a ban is listed under the domain it was given
with; ``.flv`` and ``.m3u8`` behind a play URL's stream name are not part of the name.
With ``as_sample`` (default) the query answers as its page's sample does (202, "00", ``chanel``,
numbers), else as its table does (200, 0, ``channel``, texts).
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

from worker.sandbox.simulators import wire
from worker.sandbox.simulators.common import Simulator
from worker.sandbox.simulators.quotas import Limits
from worker.sandbox.simulators.wire import DAY, MINUTE, SECOND, Answer, Exchange, refuse
from worker.sandbox.simulators.world import Key
from worker.words import Millis

SKEW = 5 * MINUTE
REPLAY_KEPT = 5 * MINUTE
LONGEST, DEFAULT = 30 * DAY, DAY
CHINA = timezone(timedelta(hours=8))
_OPERATIONS = {
    "/api/live/forbid": "forbid",
    "/api/live/stop": "stop",
    "/api/live/resume": "resume",
    "/cm/stream/forbidQuery": "forbid_query",
}
_AUTHORIZATION = re.compile(
    r"CNC-HMAC-SHA256 Credential=([^,]+), ?SignedHeaders=([^,]+), ?Signature=([0-9a-f]+)"
)
_LIVE_URL = re.compile(r"(https?|rtmp)://[^/?]+/[^?]+/[^/?]+")
_URL_LIMIT = 1000


class CdnetworksSimulator(Simulator):
    """CDNetworks. An account is a user with its API key, or an access key with its secret key."""

    vendor = "cdnetworks"
    quotas: ClassVar[Mapping[str, Limits]] = {
        "requests": ((300, 5 * MINUTE),),
        "writes": ((500, DAY),),
        "forbid": (),
        "stop": (),
        "resume": (),
        "forbid_query": ((10, 5 * MINUTE),),
    }
    charges: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "forbid": ("requests", "writes", "forbid"),
        "stop": ("requests", "writes", "stop"),
        "resume": ("requests", "writes", "resume"),
        "forbid_query": ("requests", "forbid_query"),
    }

    def __init__(self, *, as_sample: bool = True, **rest: Any) -> None:
        super().__init__(**rest)
        self.as_sample = as_sample
        self._signatures: dict[str, Millis] = {}
        self._given: dict[Key, tuple[str, Millis]] = {}

    def identify(self, exchange: Exchange) -> None:
        """Find the operation by its path, and the stream in the URL."""
        exchange.operation = _OPERATIONS.get(exchange.path) if exchange.method == "POST" else None
        exchange.params = exchange.json_params()
        query = exchange.operation == "forbid_query"
        place = self._place(exchange.params.get("url" if query else "liveUrl"))
        if place is not None:
            exchange.domain, exchange.app, exchange.stream = place
        elif isinstance(channel := exchange.params.get("channel"), str):
            exchange.domain = channel

    def authenticate(self, exchange: Exchange) -> str:
        """Verify whichever of the two schemes the request uses."""
        scheme, _, rest = exchange.headers.get("Authorization", "").partition(" ")
        if scheme == "Basic":
            return self._authenticate_basic(exchange, rest)
        return self._authenticate_keys(exchange)

    def perform(self, exchange: Exchange) -> Answer:
        """Carry out one of the four operations."""
        if exchange.operation is None:
            refuse(self.failure(404, "404", "no such api"))
        if not exchange.json_params():
            refuse(self.failure(200, "403", "parse request body error"))
        answer: Answer = getattr(self, f"_{exchange.operation}")(exchange)
        answer.headers["x-cnc-request-id"] = wire.new_request_id().lower()
        return answer

    def throttled(self, limit: int, length: Millis, retry_after: Millis | None = None) -> Answer:
        """Return 429 with a code in the body."""
        del retry_after
        return self.failure(429, "429", f"too many requests: {limit} in {length // SECOND} s")

    def failure(self, status: int, code: str, message: str) -> Answer:
        """Return an error: code and message."""
        body = {"code": code, "message": message}
        return Answer(status, body, code, headers={"x-cnc-request-id": wire.new_request_id().lower()})

    def _authenticate_basic(self, exchange: Exchange, credentials: str) -> str:
        date = exchange.headers.get("x-cnc-date") or exchange.headers.get("Date", "")
        try:
            user, _, password = base64.b64decode(credentials, validate=True).decode().partition(":")
            signed_at = int(parsedate_to_datetime(date).timestamp()) * SECOND
        except ValueError:
            refuse(self.failure(401, "401", "Authorization or Date is missing or malformed"))
        secret = self.accounts.get(user)
        if secret is None or abs(exchange.at - signed_at) > SKEW:
            refuse(self.failure(401, "401", "unknown user, or the date is too far off"))
        expected = base64.b64encode(hmac.digest(secret.encode(), date.encode(), hashlib.sha1)).decode()
        if not hmac.compare_digest(expected.encode(), password.encode()):
            refuse(self.failure(401, "401", "wrong password"))
        return user

    def _authenticate_keys(self, exchange: Exchange) -> str:
        headers = exchange.headers
        match = _AUTHORIZATION.fullmatch(headers.get("Authorization", ""))
        timestamp = headers.get("x-cnc-timestamp", "")
        if match is None or not timestamp.isdecimal():
            refuse(self.failure(401, "401", "Authorization or x-cnc-timestamp is missing or malformed"))
        access_key, names, signature = match.groups()
        signed, secret = names.split(";"), self.accounts.get(access_key)
        if abs(exchange.at - int(timestamp) * SECOND) > SKEW:
            refuse(self.failure(401, "401", "the timestamp is too far off"))
        payload = wire.sha256_hex(exchange.body)
        canonical = wire.canonical_request(exchange, exchange.path, "", signed, payload, lower=True)
        enough = {"content-type", "host"} <= set(signed) and headers.get("x-cnc-accessKey") == access_key
        if secret is None or canonical is None or not enough:
            refuse(self.failure(401, "401", "unknown access key, or headers that must be signed are missing"))
        to_sign = f"CNC-HMAC-SHA256\n{timestamp}\n{wire.sha256_hex(canonical.encode())}"
        if not hmac.compare_digest(wire.hmac_sha256_hex(secret, to_sign), signature):
            refuse(self.failure(401, "401", "the signature does not match"))
        self._use_signature(signature, exchange.at)
        return access_key

    def _use_signature(self, signature: str, now: Millis) -> None:
        """Refuse a signature that was accepted within the last 5 minutes."""
        for old in [name for name, at in self._signatures.items() if at <= now - REPLAY_KEPT]:
            del self._signatures[old]
        if signature in self._signatures:
            refuse(self.failure(401, "401", "the request was sent before"))
        self._signatures[signature] = now

    def _place(self, url: Any) -> Key | None:
        """Return domain, app and stream of a URL, however it is written; None for anything else."""
        if not isinstance(url, str):
            return None
        try:
            parts = urlsplit(url)
            domain = parts.hostname or ""
        except ValueError:
            return None
        app, _, stream = unquote(parts.path).strip("/").rpartition("/")
        if domain in self.world.play_to_push:
            stream = stream.removesuffix(".flv").removesuffix(".m3u8")
        return domain, app, stream

    def _invalid(self, message: str) -> Answer:
        return self.failure(200, "400", f"parameter is invalid: {message}")

    def _not_ours(self, exchange: Exchange, domain: str) -> Answer:
        message = f"Username[{exchange.account}] and Channel[{domain}] does not match."
        return self.failure(200, "28", message)

    def _named(self, exchange: Exchange) -> Key:
        """Return the stream a liveUrl means: the push domain's, also where a play URL is given."""
        url = exchange.params.get("liveUrl")
        if not url:
            refuse(self.failure(200, "411", "liveUrl is require"))
        place = self._place(url)
        if place is None or len(url) > _URL_LIMIT or not _LIVE_URL.fullmatch(url):
            refuse(self._invalid("liveUrl"))
        if exchange.params.get("type") not in {None, "", "play", "publish"}:
            refuse(self._invalid("type"))
        push = self.world.push_domain(place[0])
        if push is None:
            refuse(self._not_ours(exchange, place[0]))
        return push, place[1], place[2]

    def _end(self, exchange: Exchange) -> Millis:
        """Return the end asked for. ``reltime`` wins over ``abstimeEnd``; both are cut to 30 days.

        A ``reltime`` of zero or less is a day. An ``abstimeEnd`` that is over is refused (the page says
        both that and "an error"); a start may be given, but not one to come.
        """
        now, params = exchange.at, exchange.params
        start = _moment(params.get("abstimeStart") or now // SECOND)
        if start is None or start > now + SECOND:
            refuse(self._invalid("abstimeStart"))
        if params.get("reltime"):
            if not re.fullmatch(r"-?\d+", str(params["reltime"])):
                refuse(self._invalid("reltime"))
            length = int(params["reltime"]) * SECOND
            return now + min(length if length > 0 else DEFAULT, LONGEST)
        end = _moment(params["abstimeEnd"]) if params.get("abstimeEnd") else now + DEFAULT
        if end is None or end < now:
            refuse(self._invalid("abstimeEnd"))
        return min(end, now + LONGEST)

    def _done(self, *, changed: bool) -> Answer:
        return Answer(200, {"code": "0", "message": "success"}, "0", changed=changed)

    def _forbid(self, exchange: Exchange) -> Answer:
        key, until = self._named(exchange), self._end(exchange)
        exchange.until = until
        self._given[key] = (exchange.params["liveUrl"], exchange.at)
        return self._done(changed=self.world.ban(key, until, exchange.at))

    def _stop(self, exchange: Exchange) -> Answer:
        return self._done(changed=self.world.cut(self._named(exchange), exchange.at))

    def _resume(self, exchange: Exchange) -> Answer:
        return self._done(changed=self.world.lift(self._named(exchange), exchange.at))

    def _forbid_query(self, exchange: Exchange) -> Answer:
        channel, wanted = exchange.params.get("channel"), exchange.params.get("url")
        if not channel:
            refuse(self.failure(200, "411", "channel is require"))
        if self.world.push_domain(str(channel)) is None:
            refuse(self._not_ours(exchange, str(channel)))
        rows = []
        for key, until in self.world.bans(exchange.at).items():
            url, since = self._given.get(key, (f"rtmp://{'/'.join(key)}", 0))
            place = self._place(url)
            if place and place[0] == channel and wanted in {None, "", url}:
                rows.append(self._row(str(channel), url, since // SECOND, until // SECOND))
        code: Any = "00" if self.as_sample else 0
        body = {"code": code, "message": "success", "resultDetail": rows}
        return Answer(202 if self.as_sample else 200, body, str(code))

    def _row(self, channel: str, url: str, start: int, end: int) -> dict[str, Any]:
        if self.as_sample:
            return {"chanel": channel, "url": url, "startTime": start, "endTime": end, "ip": ""}
        return {"channel": channel, "url": url, "startTime": str(start), "endTime": str(end), "ip": ""}


def _moment(text: Any) -> Millis | None:
    """Return what ``yyyymmddHHMMSS`` (GMT+8, the API's default zone) or 10-digit epoch seconds name."""
    if re.fullmatch(r"\d{10}", str(text)):
        return int(text) * SECOND
    try:
        return int(datetime.strptime(str(text), "%Y%m%d%H%M%S").replace(tzinfo=CHINA).timestamp()) * SECOND
    except ValueError:
        return None
