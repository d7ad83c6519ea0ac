"""Alibaba Cloud ApsaraVideo Live, version 2016-11-01, as its documentation tells it.

Pages (help.aliyun.com, ApsaraVideo Live API): ForbidLiveStream, ResumeLiveStream, SetLiveStreamBlock,
DeleteLiveStreamBlock, DescribeStreamLocationBlock, DescribeLiveStreamsBlockList,
DescribeLiveStreamState, DescribeLiveStreamsOnlineList (parameters, calls a second and account),
the signature page of ACS3-HMAC-SHA256, and the common error codes. Which domain an operation wants
differs: forbid and resume the push domain, region blocks and lists the play domain, state either.

Documented nowhere, so chosen here: forbidding a forbidden stream gives 400 ConfigAlreadyExists and
moves nothing (``reforbid="updates"``: it moves the end); ends in the past are malformed; resume of a
stream that is not forbidden and delete of a rule that does not exist succeed; more than 10,000
forbidden streams give QuotaExceeded.Blacklist (a sibling product's code), more than 200 rules
QuotaExceeded.Block; expired rules stay listed with Status 4; the default PageSize of rules is 10;
the list of forbidden streams shows the domain it was asked for; authentication needs ``host`` and
every ``x-acs-*`` header signed.
"""

import hmac
import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal
from urllib.parse import parse_qsl

from worker.sandbox.simulators import wire
from worker.sandbox.simulators.common import Simulator
from worker.sandbox.simulators.quotas import Limits
from worker.sandbox.simulators.wire import DAY, MINUTE, SECOND, Answer, Exchange, refuse
from worker.sandbox.simulators.world import Key
from worker.words import Millis

SKEW = NONCE_KEPT = 15 * MINUTE
FORBIDDEN_FOR, BLOCKED_FOR = 183 * DAY, 7 * DAY
STREAM = ("AppName", "StreamName")
_OPERATIONS = {
    "ForbidLiveStream": ("forbid", "push", (*STREAM, "LiveStreamType")),
    "ResumeLiveStream": ("resume", "push", (*STREAM, "LiveStreamType")),
    "SetLiveStreamBlock": ("set_region_block", "play", (*STREAM, "BlockType", "LocationList")),
    "DeleteLiveStreamBlock": ("delete_region_block", "play", STREAM),
    "DescribeStreamLocationBlock": ("describe_region_block", "play", ()),
    "DescribeLiveStreamsBlockList": ("list_blocked", "play", ()),
    "DescribeLiveStreamState": ("stream_state", "either", STREAM),
    "DescribeLiveStreamsOnlineList": ("list_online", "play", ()),
}
_AUTHORIZATION = re.compile(
    r"ACS3-HMAC-SHA256 Credential=([^,]+),SignedHeaders=([^,]+),Signature=([0-9a-f]+)"
)
_MUST_SIGN = {"host", "x-acs-date", "x-acs-signature-nonce", "x-acs-content-sha256", "x-acs-action"}
_LOCATIONS = re.compile(r"[A-Z]{2}(,[A-Z]{2})*")


@dataclass(slots=True)
class RegionBlock:
    """One rule of a stream; it takes effect, and goes, some time after it was asked for."""

    type: str
    locations: str
    release_at: Millis
    updated_at: Millis
    deleted_at: Millis | None = None


class AliyunSimulator(Simulator):
    """ApsaraVideo Live.

    ``region_delay_ms``: how long a region block takes; ``region_result``: 2 succeeds, 3 fails.
    ``security_tokens`` maps access keys of temporary credentials to their token.
    """

    vendor = "aliyun"
    quotas: ClassVar[Mapping[str, Limits]] = {
        "forbid": ((20, SECOND),),
        "resume": ((30, SECOND),),
        "set_region_block": ((50, SECOND),),
        "delete_region_block": ((50, SECOND),),
        "describe_region_block": ((50, SECOND),),
        "list_blocked": ((50, SECOND),),
        "stream_state": ((100, SECOND),),
        "list_online": ((10_000, MINUTE),),
    }

    def __init__(
        self,
        *,
        security_tokens: Mapping[str, str] | None = None,
        reforbid: Literal["exists", "updates"] = "exists",
        region_delay_ms: Millis = 500,
        region_result: int = 2,
        max_forbidden: int = 10_000,
        max_rules: int = 200,
        **rest: Any,
    ) -> None:
        super().__init__(**rest)
        self.security_tokens = dict(security_tokens or {})
        self.reforbid = reforbid
        self.region_delay_ms = region_delay_ms
        self.region_result = region_result
        self.max_forbidden = max_forbidden
        self.max_rules = max_rules
        self._rules: dict[Key, RegionBlock] = {}
        self._nonces: set[str] = set()
        self._nonce_ages: deque[tuple[Millis, str]] = deque()

    def identify(self, exchange: Exchange) -> None:
        """Read the action header, and parameters from the query and a form body."""
        action = exchange.headers.get("x-acs-action", "")
        exchange.operation = _OPERATIONS[action][0] if action in _OPERATIONS else None
        exchange.params = exchange.query_params()
        if exchange.headers.get("Content-Type", "").startswith("application/x-www-form-urlencoded"):
            exchange.params |= parse_qsl(exchange.body.decode("utf-8", "replace"), keep_blank_values=True)
        exchange.names("DomainName", *STREAM)

    def authenticate(self, exchange: Exchange) -> str:
        """Verify ACS3-HMAC-SHA256: the headers it says are signed, the decoded query, a nonce used once."""
        headers, payload = exchange.headers, wire.sha256_hex(exchange.body)
        match = _AUTHORIZATION.fullmatch(headers.get("Authorization", ""))
        signed = match[2].split(";") if match else []
        needed = _MUST_SIGN | {name.lower() for name in headers if name.lower().startswith("x-acs-")}
        if match is None or needed - set(signed):
            refuse(
                self.failure(400, "IncompleteSignature", "Authorization is malformed or signs too little.")
            )
        secret = self.accounts.get(match[1])
        if secret is None:
            refuse(self.failure(404, "InvalidAccessKeyId.NotFound", "Specified access key is not found."))
        if headers.get("x-acs-security-token") != self.security_tokens.get(match[1]):
            refuse(self.failure(400, "InvalidSecurityToken.Malformed", "The security token is wrong."))
        signed_at = wire.parse_utc(headers.get("x-acs-date"))
        if signed_at is None:
            refuse(
                self.failure(400, "InvalidTimeStamp.Format", "Specified time stamp is not well formatted.")
            )
        if abs(exchange.at - signed_at) > SKEW:
            refuse(self.failure(400, "InvalidTimeStamp.Expired", "Specified time stamp is expired."))
        query = wire.canonical_query(exchange.query)
        canonical = wire.canonical_request(exchange, exchange.path, query, signed, payload)
        to_sign = f"ACS3-HMAC-SHA256\n{wire.sha256_hex((canonical or '').encode())}"
        right = hmac.compare_digest(wire.hmac_sha256_hex(secret, to_sign), match[3])
        if not right or canonical is None or headers["x-acs-content-sha256"] != payload:
            message = (
                f"Specified signature is not matched with our calculation. server string to sign is:{to_sign}"
            )
            refuse(self.failure(400, "SignatureDoesNotMatch", message))
        self._use_nonce(f"{match[1]} {headers['x-acs-signature-nonce']}", exchange.at)
        return match[1]

    def perform(self, exchange: Exchange) -> Answer:
        """Carry out one of the eight operations."""
        if exchange.operation is None:
            refuse(self.failure(404, "InvalidApi.NotFound", "Specified api is not found."))
        if exchange.headers.get("x-acs-version") != "2016-11-01":
            refuse(self.failure(400, "InvalidVersion", "Specified parameter Version is not valid."))
        _, role, needed = _OPERATIONS[exchange.headers["x-acs-action"]]
        for name in ("DomainName", *needed):
            if not exchange.params.get(name):
                refuse(self.failure(400, f"Missing{name}", f"{name} is mandatory for this action."))
        roles = {"push": self.world.push_to_play, "play": self.world.play_to_push}
        known = roles[role] if role in roles else {**roles["push"], **roles["play"]}
        if exchange.domain not in known:
            message = "The domain provided does not exist in our records."
            refuse(self.failure(404, "InvalidDomain.NotFound", message))
        if exchange.params.get("LiveStreamType", "publisher") != "publisher":
            refuse(self._invalid())
        key = (exchange.domain, exchange.app or "", exchange.stream or "")
        answer: Answer = getattr(self, f"_{exchange.operation}")(exchange, key)
        return answer

    def throttled(self, limit: int, length: Millis, retry_after: Millis | None = None) -> Answer:
        """Return 400 Throttling.User; the SDK reads ``x-acs-retry-after`` as milliseconds."""
        message = f"Request was denied due to user flow control: {limit} in {length} ms."
        answer = self.failure(400, "Throttling.User", message)
        if retry_after is not None:
            answer.headers["x-acs-retry-after"] = str(retry_after)
        return answer

    def failure(self, status: int, code: str, message: str) -> Answer:
        """Return the error envelope."""
        envelope = {"RequestId": wire.new_request_id(), "HostId": "live.aliyuncs.com"}
        return Answer(status, {**envelope, "Code": code, "Message": message}, code)

    def state(self) -> dict[str, Any]:
        """Return what is in force; region blocks stand under their play domain."""
        with self._lock:
            rules = [self._row(key, rule, self.clock()) for key, rule in self._listed(self.clock()).items()]
            return {**super().state(), "region_blocks": rules}

    def unblock(self, domain: str, app: str, stream: str) -> bool:
        """Take a region block away at once, behind everybody's back; return whether there was one."""
        with self._lock:
            return (
                self._rules.pop((self.world.push_to_play.get(domain, domain), app, stream), None) is not None
            )

    def _use_nonce(self, nonce: str, now: Millis) -> None:
        while self._nonce_ages and self._nonce_ages[0][0] <= now - NONCE_KEPT:
            self._nonces.discard(self._nonce_ages.popleft()[1])
        if nonce in self._nonces:
            refuse(self.failure(400, "SignatureNonceUsed", "Specified signature nonce was used already."))
        self._nonces.add(nonce)
        self._nonce_ages.append((now, nonce))

    def _invalid(self, code: str = "InvalidParam") -> Answer:
        return self.failure(400, code, "Parameter invalid.")

    def _done(self, body: Mapping[str, Any] | None = None, *, changed: bool = False) -> Answer:
        return Answer(200, {"RequestId": wire.new_request_id(), **(body or {})}, changed=changed)

    def _end(self, exchange: Exchange, name: str, default: Millis) -> Millis:
        text = exchange.params.get(name)
        until = exchange.until = wire.parse_utc(text) if text else exchange.at + default
        if until is None or until <= exchange.at:
            refuse(self._invalid(f"Invalid{name}.Malformed"))
        return until

    def _page(
        self, exchange: Exchange, rows: Sequence[Any], default: int, largest: int
    ) -> tuple[dict[str, int], Sequence[Any]]:
        """Return page, size and totals, and the rows of that page."""
        page = wire.parse_int(exchange.params.get("PageNum"), 1)
        size = wire.parse_int(exchange.params.get("PageSize"), default)
        if page < 1 or not 1 <= size <= largest:
            refuse(self._invalid())
        totals = {"PageNum": page, "PageSize": size, "TotalPage": -(-len(rows) // size)}
        return totals, rows[(page - 1) * size : page * size]

    def _forbid(self, exchange: Exchange, key: Key) -> Answer:
        now, oneshot = exchange.at, exchange.params.get("Oneshot", "no")
        if oneshot not in {"yes", "no"}:
            refuse(self._invalid())
        if oneshot == "yes":
            return self._done(changed=self.world.cut(key, now))
        until = self._end(exchange, "ResumeTime", FORBIDDEN_FOR)
        if self.world.banned_until(key, now) is None:
            if self.world.bans_full(self.max_forbidden, now):
                refuse(self.failure(400, "QuotaExceeded.Blacklist", "The blacklist is full."))
        elif self.reforbid == "exists":
            refuse(self.failure(400, "ConfigAlreadyExists", "Config has already exist."))
        return self._done(changed=self.world.ban(key, until, now))

    def _resume(self, exchange: Exchange, key: Key) -> Answer:
        keys = [key]
        if key[1] == "*":
            keys = [k for k in self.world.bans(exchange.at) if (k[0], k[2]) == (key[0], key[2])]
        lifted = [self.world.lift(each, exchange.at) for each in keys]
        return self._done(changed=any(lifted))

    def _set_region_block(self, exchange: Exchange, key: Key) -> Answer:
        now, kind, locations = exchange.at, exchange.params["BlockType"], exchange.params["LocationList"]
        release_at = self._end(exchange, "ReleaseTime", BLOCKED_FOR)
        if kind not in {"blacklist", "whitelist"} or not _LOCATIONS.fullmatch(locations):
            refuse(self._invalid())
        others = [k for k, rule in self._listed(now).items() if k != key and rule.release_at > now]
        if sum(other[0] == key[0] for other in others) >= self.max_rules:
            refuse(self.failure(400, "QuotaExceeded.Block", "The domain has too many rules."))
        self._rules[key] = RegionBlock(kind, locations, release_at, now)
        return self._done({"Status": "ok", "Description": "ok"}, changed=True)

    def _delete_region_block(self, exchange: Exchange, key: Key) -> Answer:
        rule = self._listed(exchange.at).get(key)
        changed = rule is not None and rule.deleted_at is None
        if rule is not None and changed:
            rule.deleted_at = exchange.at
        return self._done({"Status": "ok", "Description": "ok"}, changed=changed)

    def _describe_region_block(self, exchange: Exchange, key: Key) -> Answer:
        kind = exchange.params.get("BlockType")
        rows = [
            self._row(each, rule, exchange.at)
            for each, rule in self._listed(exchange.at).items()
            if all(wanted in {"", given} for wanted, given in zip(key, each, strict=True))
            and kind in {None, "", rule.type}
        ]
        totals, shown = self._page(exchange, rows, 10, 100)
        return self._done({"Count": len(rows), **totals, "StreamBlockList": {"StreamBlock": shown}})

    def _list_blocked(self, exchange: Exchange, key: Key) -> Answer:
        push = self.world.play_to_push[key[0]]
        urls = [f"{key[0]}/{each[1]}/{each[2]}" for each in self.world.bans(exchange.at) if each[0] == push]
        totals, shown = self._page(exchange, urls, 2000, 3000)
        listed = {"TotalNum": len(urls), **totals, "StreamUrls": {"StreamUrl": shown}}
        return self._done({"DomainName": key[0], **listed})

    def _stream_state(self, exchange: Exchange, key: Key) -> Answer:
        push = self.world.push_domain(key[0]) or ""
        live = self.world.live_since((push, key[1], key[2]), exchange.at) is not None
        return self._done({"Type": "push", "StreamState": "online" if live else "offline"})

    def _list_online(self, exchange: Exchange, key: Key) -> Answer:
        match = exchange.params.get("QueryType", "fuzzy")
        if match not in {"fuzzy", "strict"}:
            refuse(self._invalid())
        rows = [
            {
                "DomainName": key[0],
                "PublishDomain": domain,
                "AppName": app,
                "StreamName": stream,
                "PublishTime": wire.format_utc(since),
                "PublishUrl": f"rtmp://{domain}/{wire.percent(app)}/{wire.percent(stream)}",
                "PublishType": "edge",
                "Transcoded": "no",
            }
            for (domain, app, stream), since in self.world.live(exchange.at).items()
            if domain == self.world.play_to_push[key[0]]
            and key[1] in {"", app}
            and (key[2] in {"", stream} or (match == "fuzzy" and key[2] in stream))
        ]
        totals, shown = self._page(exchange, rows, 2000, 3000)
        return self._done({"TotalNum": len(rows), **totals, "OnlineInfo": {"LiveStreamOnlineInfo": shown}})

    def _listed(self, now: Millis) -> dict[Key, RegionBlock]:
        """Return the region blocks that are still listed; deleted ones go after the delay."""
        for key, rule in list(self._rules.items()):
            if rule.deleted_at is not None and now - rule.deleted_at >= self.region_delay_ms:
                del self._rules[key]
        return self._rules

    def _row(self, key: Key, rule: RegionBlock, now: Millis) -> dict[str, Any]:
        """Return a rule as listed: 0 not started, 1 in progress, 2 or 3 the result, 4 over, 5 deleting."""
        age = now - rule.updated_at
        status = int(age * 2 >= self.region_delay_ms)
        if age >= self.region_delay_ms:
            status = self.region_result
        if now >= rule.release_at:
            status = 4
        if rule.deleted_at is not None:
            status = 5
        return {
            "DomainName": key[0],
            "AppName": key[1],
            "StreamName": key[2],
            "BlockType": rule.type,
            "LocationList": rule.locations,
            "Status": status,
            "ReleaseTime": wire.format_utc(rule.release_at),
            "UpdateTime": wire.format_utc(rule.updated_at),
        }
