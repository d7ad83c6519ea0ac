"""Huawei Cloud Live, API v1, as its documentation tells it.

Pages (support.huaweicloud.com): api-live/CreateStreamForbiddenOnce, CreateStreamForbidden,
UpdateStreamForbidden, DeleteStreamForbidden, ListStreamForbidden, ListLiveStreamsOnline (parameters,
limits, quotas per user and minute), live_03_0052 and ErrorCode (codes); devg-apisign
api-sign-algorithm (SDK-HMAC-SHA256) and api-sign-errorcode (APIGW.*); api-iam/iam_30_0001 (tokens).

Documented nowhere, so chosen here: a second block of a blocked stream is refused with
LIVE.103011018 and moves nothing; update or unblock of a stream that is not blocked gives 404
LIVE.103011019; a resume time beyond 90 days is refused; block-once of a stream that is not live
gives 204; a project id that is not the account's gives 403 APIGW.0302; ``offset`` of the online
list counts streams, not pages; a security token that does not fit gives 401 APIGW.0301.
A request with X-Auth-Token is judged by that alone: the SDK signs such a one with keys too.
Left out: the limits of the whole API (they depend on other tenants).
"""

import hmac
import re
import uuid
from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import unquote

from worker.sandbox.simulators import wire
from worker.sandbox.simulators.common import Simulator
from worker.sandbox.simulators.quotas import Limits
from worker.sandbox.simulators.wire import DAY, MINUTE, Answer, Exchange, refuse
from worker.sandbox.simulators.world import Key
from worker.words import Millis

SKEW = 15 * MINUTE
LONGEST, DEFAULT = 90 * DAY, 7 * DAY
LARGEST_PAGE = 100
_OPERATIONS = {
    ("POST", "stream/block-once"): "block_once",
    ("POST", "stream/blocks"): "block",
    ("PUT", "stream/blocks"): "update_block",
    ("DELETE", "stream/blocks"): "unblock",
    ("GET", "stream/blocks"): "list_blocks",
    ("GET", "realtime/streams"): "list_online",
}
_PATH = re.compile(r"/v1/([^/]+)/(.+)")
_AUTHORIZATION = re.compile(r"SDK-HMAC-SHA256 Access=([^,]+), ?SignedHeaders=([^,]+), ?Signature=([0-9a-f]+)")
_DATE = re.compile(r"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z")
_LENGTHS = {"domain": 255, "app_name": 128, "stream_name": 512}
_MEDIA = {"video_codec": "H264", "audio_codec": "AAC", "resolution": "1280x720", "client_ip": "192.0.2.1"}


_TOKENS = "/v3/auth/tokens"
USERS: Mapping[str, tuple[str, str]] = {"sandbox-user": ("sandbox-password", "sandbox-domain")}


class HuaweiSimulator(Simulator):
    """Huawei Cloud Live, and IAM under the same address.

    ``security_tokens`` maps access keys of temporary credentials to their token; ``users`` the names of IAM
    users to their password and the account they belong to. A token is good for ``token_life_ms``.
    """

    vendor = "huawei"
    quotas: ClassVar[Mapping[str, Limits]] = {
        "block_once": ((300, MINUTE),),
        "block": ((4000, MINUTE),),
        "update_block": ((4000, MINUTE),),
        "unblock": ((3000, MINUTE),),
        "list_blocks": ((3000, MINUTE),),
        "list_online": ((1000, MINUTE),),
    }

    def __init__(
        self,
        *,
        project_id: str = "sandbox-project",
        security_tokens: Mapping[str, str] | None = None,
        users: Mapping[str, tuple[str, str]] = USERS,
        token_life_ms: Millis = DAY,
        **rest: Any,
    ) -> None:
        super().__init__(**rest)
        self.project_id = project_id
        self.security_tokens = dict(security_tokens or {})
        self.users = {name: tuple(given) for name, given in users.items()}
        self.token_life_ms = token_life_ms
        self._tokens: dict[str, tuple[str, Millis]] = {}  # user, and the end

    def revoke_tokens(self) -> None:
        """Take no token any more that was given so far, as after a change of password."""
        with self._lock:
            self._tokens.clear()

    def identify(self, exchange: Exchange) -> None:
        """Find the operation by method and path; the online list has other names than the rest."""
        if (exchange.method, exchange.path) == ("POST", _TOKENS):
            exchange.operation, exchange.params = "login", exchange.json_params()
            return
        match = _PATH.fullmatch(exchange.path)
        exchange.operation = _OPERATIONS.get((exchange.method, match[2])) if match else None
        reads = exchange.method in {"GET", "DELETE"}
        exchange.params = exchange.query_params() if reads else exchange.json_params()
        if exchange.operation == "list_online":
            exchange.names("publish_domain", "app", "stream")
        else:
            exchange.names("domain", "app_name", "stream_name")

    def authenticate(self, exchange: Exchange) -> str:
        """Verify SDK-HMAC-SHA256 (X-Sdk-Date must be signed, 15 minutes of skew); X-Project-Id is compulsory.

        In the signature alone the path ends in ``/``; X-Sdk-Content-Sha256 may leave the body unsigned.
        A token takes the place of all that, and to get one a password does.
        """
        if exchange.operation == "login":
            return self._user(exchange)
        if "X-Auth-Token" in exchange.headers:
            return self._token_owner(exchange)
        headers, date = exchange.headers, exchange.headers.get("X-Sdk-Date", "")
        match = _AUTHORIZATION.fullmatch(headers.get("Authorization", ""))
        signed_at = wire.parse_utc(_DATE.sub(r"\1-\2-\3T\4:\5:\6Z", date))
        if match is None or signed_at is None:
            refuse(self._unauthorized("Authorization or X-Sdk-Date is missing or malformed"))
        if abs(exchange.at - signed_at) > SKEW:
            now = re.sub("[-:]", "", wire.format_utc(exchange.at))
            refuse(self._unauthorized(f"signature expired, signature time:{date},server time:{now}"))
        access_key, names, signature = match.groups()
        signed, secret = names.split(";"), self.accounts.get(access_key)
        unsigned = headers.get("X-Sdk-Content-Sha256") == "UNSIGNED-PAYLOAD"
        path = "/".join(wire.percent(unquote(part)) for part in exchange.path.rstrip("/").split("/"))
        canonical = wire.canonical_request(
            exchange,
            f"{path}/",
            wire.canonical_query(exchange.query),
            signed,
            "UNSIGNED-PAYLOAD" if unsigned else wire.sha256_hex(exchange.body),
        )
        if secret is None or canonical is None or "x-sdk-date" not in signed:
            refuse(self._unauthorized("unknown access key, or signed headers that are not"))
        to_sign = f"SDK-HMAC-SHA256\n{date}\n{wire.sha256_hex(canonical.encode())}"
        if not hmac.compare_digest(wire.hmac_sha256_hex(secret, to_sign), signature):
            shown = canonical.replace("\n", "|")
            refuse(self._unauthorized(f"verify aksk signature fail, canonicalRequest:{shown}"))
        token = headers.get("X-Security-Token")
        if token != self.security_tokens.get(access_key) or (token and "x-security-token" not in signed):
            refuse(self._unauthorized("the security token is missing, wrong or not signed"))
        if not headers.get("X-Project-Id"):
            refuse(self._unauthorized("X-Project-Id is missing"))
        return access_key

    def perform(self, exchange: Exchange) -> Answer:
        """Carry out one of the six operations, or give a token."""
        if exchange.operation == "login":
            return self._give_token(exchange)
        match = _PATH.fullmatch(exchange.path)
        if match is None or match[2] not in {path for _, path in _OPERATIONS}:
            refuse(self.failure(404, "APIGW.0101", "The API does not exist or has not been published"))
        if match[1] != self.project_id or exchange.headers.get("X-Project-Id", match[1]) != match[1]:
            refuse(self.failure(403, "APIGW.0302", "IAM user is not authorized for this project"))
        if exchange.operation is None:
            refuse(self.failure(400, "LIVE.100011011", "HTTP method not supported"))
        media = exchange.headers.get("Content-Type", "")
        if exchange.method in {"POST", "PUT"} and not media.startswith("application/json"):
            refuse(self.failure(400, "LIVE.100011012", "Media type not supported"))
        if exchange.operation.startswith("list_"):
            return self._list(exchange)
        key, now = self._named(exchange), exchange.at
        if exchange.operation == "block_once":
            return self._done(changed=self.world.cut(key, now))
        blocked = self.world.banned_until(key, now) is not None
        if exchange.operation == "unblock":
            self._must(blocked)
            return self._done(changed=self.world.lift(key, now))
        until = self._resume_time(exchange)
        if exchange.operation == "update_block":
            self._must(blocked)
        elif blocked:
            refuse(self.failure(400, "LIVE.103011018", "The resource already exists"))
        return self._done(changed=self.world.ban(key, until, now))

    def throttled(self, limit: int, length: Millis, retry_after: Millis | None = None) -> Answer:
        """Return 429 APIGW.0308, without Retry-After: none is documented."""
        del retry_after
        rate = f"limit:{limit},time:{length / MINUTE:g} minute"
        return self.failure(429, "APIGW.0308", f"Throttling policy user over ratelimit,{rate}")

    def failure(self, status: int, code: str, message: str) -> Answer:
        """Return an error as the live service (LIVE.*) or its gateway (APIGW.*) writes it."""
        request_id = wire.new_request_id()
        gateway = {"request_id": request_id} if code.startswith("APIGW.") else {}
        body = {"error_code": code, "error_msg": message, **gateway}
        return Answer(status, body, code, headers={"X-Request-Id": request_id})

    def _user(self, exchange: Exchange) -> str:
        """Return the user whose name, password and account a request for a token names."""
        try:
            identity = exchange.params["auth"]["identity"]
            user = identity["password"]["user"]
            name, given = user["name"], (user["password"], user["domain"]["name"])
        except (KeyError, TypeError):
            refuse(_iam_error(400, "Bad Request", "The request body is invalid"))
        if identity.get("methods") != ["password"] or self.users.get(name) != given:
            refuse(_iam_error(401, "Unauthorized", "The username or password is wrong."))
        return str(name)

    def _give_token(self, exchange: Exchange) -> Answer:
        """Return a token for the project asked for, in a header; tokens given before stay good."""
        scope = exchange.params["auth"].get("scope") or {}
        if scope.get("project") != {"id": self.project_id}:
            refuse(_iam_error(401, "Unauthorized", "The project is not one of the user's"))
        text, until = f"MII{uuid.uuid4().hex}", exchange.at + self.token_life_ms
        self._tokens[text] = str(exchange.account), until
        times = {"issued_at": _iam_time(exchange.at), "expires_at": _iam_time(until)}
        return Answer(201, {"token": {"methods": ["password"], **times}}, headers={"X-Subject-Token": text})

    def _token_owner(self, exchange: Exchange) -> str:
        owner, until = self._tokens.get(exchange.headers["X-Auth-Token"], ("", 0))
        if until <= exchange.at:
            refuse(self.failure(401, "APIGW.0307", "The token must be updated"))
        return owner

    def _unauthorized(self, message: str) -> Answer:
        return self.failure(401, "APIGW.0301", f"Incorrect IAM authentication information: {message}")

    def _illegal(self, message: str, status: int = 400) -> Answer:
        return self.failure(status, "LIVE.100011001", f"Request Illegal: {message}")

    def _must(self, exists: bool) -> None:
        if not exists:
            refuse(self.failure(404, "LIVE.103011019", "The resource does not exist"))

    def _done(self, body: Any = None, *, changed: bool = False) -> Answer:
        headers = {"X-Request-Id": wire.new_request_id()}
        return Answer(204 if body is None else 200, body, changed=changed, headers=headers)

    def _named(self, exchange: Exchange) -> Key:
        """Return the stream a call names; lengths as the DELETE and GET pages give them, ``*`` is no name.

        An unknown domain gives LIVE.100011001, with 403 on DELETE and 400 else.
        """
        for name, longest in _LENGTHS.items():
            value = exchange.params.get(name)
            if not isinstance(value, str) or not 1 <= len(value) <= longest:
                refuse(self._illegal(f"{name} must have 1 to {longest} characters"))
        domain, app, stream = (exchange.params[name] for name in _LENGTHS)
        if stream == "*":
            refuse(self._illegal("stream_name must not be *"))
        if domain not in self.world.push_to_play:
            refuse(self._illegal("domain", 403 if exchange.method == "DELETE" else 400))
        return domain, app, stream

    def _resume_time(self, exchange: Exchange) -> Millis:
        """Return the end asked for: absent 7 days, at most 90; POST allows this very second, PUT does not.

        The page says ``Z``; the vendor's own SDK writes ``+00:00``.
        """
        text = exchange.params.get("resume_time")
        if isinstance(text, str):
            text = re.sub(r"\+00:00$", "Z", text)
        until = exchange.until = exchange.at + DEFAULT if text is None else wire.parse_utc(text)
        earliest = exchange.at - exchange.at % 1000 + (exchange.method == "PUT")
        if until is None or not earliest <= until <= exchange.at + LONGEST:
            refuse(self._illegal("resume_time must be yyyy-mm-ddThh:mm:ssZ, ahead, within 90 days"))
        return until

    def _list(self, exchange: Exchange) -> Answer:
        """Return a page of blocks (``page`` from 0, ``size``) or of what is live (``offset``, ``limit``)."""
        params, blocks = exchange.params, exchange.operation == "list_blocks"
        first = wire.parse_int(params.get("page" if blocks else "offset"), 0)
        size = wire.parse_int(params.get("size" if blocks else "limit"), 10)
        if first < 0 or not 1 <= size <= LARGEST_PAGE:
            refuse(self._illegal("page, size, offset or limit"))
        if "stream" in params and "app" not in params:
            refuse(self._illegal("stream needs app"))
        if exchange.domain not in self.world.push_to_play:
            refuse(self._illegal("domain"))
        source = self.world.bans(exchange.at) if blocks else self.world.live(exchange.at)
        found = [
            (key, at)
            for key, at in source.items()
            if key[0] == exchange.domain
            and exchange.app in {None, key[1]}
            and exchange.stream in {None, key[2]}
        ]
        if blocks:
            shown = found[first * size : (first + 1) * size]
            rows = [
                {"app_name": k[1], "stream_name": k[2], "resume_time": wire.format_utc(at)} for k, at in shown
            ]
            return self._done({"total": len(found), "blocks": rows})
        streams = [
            {"publish_domain": k[0], "app": k[1], "stream": k[2], "start_time": wire.format_utc(at), **_MEDIA}
            for k, at in found[first : first + size]
        ]
        totals = {
            "total_page": -(-len(found) // size),
            "total_num": len(found),
            "offset": first,
            "limit": size,
        }
        return self._done({**totals, "request_id": wire.new_request_id(), "streams": streams})


def _iam_error(status: int, title: str, message: str) -> Answer:
    body = {"error": {"code": status, "message": message, "title": title}}
    return Answer(status, body, str(status), headers={"X-Request-Id": wire.new_request_id()})


def _iam_time(at: Millis) -> str:
    """Return a moment as IAM writes it, with six places behind the second."""
    return wire.format_utc(at).replace("Z", f".{at % 1000:03d}000Z")
