"""Our requests beside those of the vendors' own SDKs: what is sent, and what is signed."""

import asyncio
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from functools import cache
from hashlib import sha256
from urllib.parse import parse_qsl

import httpx
import pytest
from alibabacloud_tea_openapi.utils import Utils
from darabonba.request import DaraRequest
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.sdk_request import SdkRequest
from huaweicloudsdkcore.signer.signer import Signer
from wangsu.common.auth.AkSkAuth import AkSkAuth
from wangsu.common.auth.HttpRequestMsg import HttpRequestMsg

from tests.sdk.clients import ASK, KEY, PROJECT, SECRET, TEMPORARY, WAYS, huawei_token
from tests.sdk.differences import ENCODED, expected
from tests.sdk.recorder import Recorder, Sent, recording
from worker.runtime.exchange import _exchange, _on_the_wire, _Progress
from worker.vendors import load_spec, make
from worker.vendors.base import Account, LoggedIn, LogsIn, Request, Response, Vendor
from worker.words import Call, Millis, Purpose, Target

pytestmark = pytest.mark.sdk

SETTINGS = {
    "aliyun": {"access_key_id": KEY, "access_key_secret": SECRET},
    "cdnetworks": {"access_key": KEY, "secret_key": SECRET},
    "huawei": {"access_key": KEY, "secret_key": SECRET, "project_id": PROJECT},
}
MORE = {
    ("aliyun", "temporary keys"): {"security_token": TEMPORARY},
    ("huawei", "temporary keys"): {"security_token": TEMPORARY},
    ("huawei", "token"): {
        "access_key": "",
        "secret_key": "",
        "iam.user": "sandbox-user",
        "iam.password": "sandbox-password",
        "iam.domain": "sandbox-domain",
        "iam.endpoint": "https://iam.example",
    },
}
"""The settings of an account that proves in another way who it is."""
TOKEN = "MIIsandbox"
TLS = httpx.create_ssl_context()
"""Made once: reading the certificates takes longer than a request."""

PUSH, PLAY = "push.sandbox.example", "play.sandbox.example"
OPERATIONS: list[tuple[str, str, Purpose]] = [
    (vendor, operation.name, purpose)
    for vendor in ASK
    for operation in load_spec(vendor).operations.values()
    for purpose in operation.serves or ("read_live",)
]
NAMES = {
    "plain": "room42",
    "a space": "room 42",
    "a plus": "1+1",
    "a star within": "a*b",
    "a tilde": "~me",
    "a percent sign": "100%",
    "what looks encoded": "a%2Fb%20c",
    "a slash within": "a/b",
    "Unicode": "直播-комната-é-e\u0301-🎥",
    "signs of queries": "a&b=c;d",
    "quotes": "a\"b'c\\d",
    "nothing": "",
    "very long": "x" * 900,
}
ZONES = ("UTC", "Asia/Shanghai", "Europe/Berlin")
MOMENTS = {
    "the hour that Berlin leaves out": "2027-03-28T01:30:00+00:00",
    "the hour that Berlin has twice": "2026-10-25T00:30:00+00:00",
    "the second time": "2026-10-25T01:30:00+00:00",
}


ENDING = [each for each in OPERATIONS if each[2] in {"forbid", "move_end", "block_regions"}]


def _signed_by_huawei(request: Request) -> str:
    scheme, _, rest = request.url.partition("://")
    host, _, target = rest.partition("/")
    path, _, query = target.partition("?")
    headers = {name: value for name, value in request.headers.items() if name != "authorization"}
    ask = SdkRequest(
        request.method, scheme, host, f"/{path}", f"/{path}", meaning(query), headers, request.content
    )
    signed: str = Signer(BasicCredentials(KEY, SECRET, PROJECT)).sign(ask).header_params["Authorization"]
    return signed


def _signed_by_aliyun(request: Request) -> str:
    ask = DaraRequest()
    ask.method, ask.pathname = request.method, "/"
    ask.query = dict(meaning(request.url.partition("?")[2]))
    # The SDK signs whatever headers it has; of ours, accept is not to be signed.
    ask.headers = {k: v for k, v in request.headers.items() if k not in {"authorization", "accept"}}
    payload = sha256(request.content).hexdigest()
    signed: str = Utils.get_authorization(ask, "ACS3-HMAC-SHA256", payload, KEY, SECRET)
    return signed


def _signed_by_cdnetworks(request: Request) -> str:
    ask = HttpRequestMsg()
    ask.method, ask.headers, ask.body = request.method, dict(request.headers), request.content.decode("ascii")
    ask.uri = f"/{request.url.split('/', 3)[3]}"
    signature = AkSkAuth.get_signature(ask, SECRET, request.headers["x-cnc-timestamp"])
    signed: str = AkSkAuth.gen_authorization(KEY, AkSkAuth.get_signed_headers(None), signature)
    return signed


SIGNERS: Mapping[str, Callable[[Request], str]] = {
    "aliyun": _signed_by_aliyun,
    "cdnetworks": _signed_by_cdnetworks,
    "huawei": _signed_by_huawei,
}


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    with recording() as running:
        yield running


@pytest.fixture(params=ZONES)
def zone(request: pytest.FixtureRequest) -> Iterator[str]:
    """Let this machine stand in a time zone."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = request.param
    time.tzset()
    yield request.param
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


@cache
def adapter(vendor: str, url: str, way: str = "keys") -> Vendor:
    settings = SETTINGS[vendor] | MORE.get((vendor, way), {})
    made = make(load_spec(vendor), Account("a", vendor, settings, url))
    if way != "token":
        return made
    assert isinstance(made, LogsIn)
    given = made.logged_in(Response(201, {"x-subject-token": TOKEN}, b""), 0)
    assert isinstance(given, LoggedIn)
    return given.vendor


def a_call(operation: str, purpose: Purpose, stream: str = "room42", until: Millis | None = None) -> Call:
    end = (int(time.time()) + 86_400) * 1000 if until is None else until
    return Call(
        "c", purpose, operation, Target("a", "live", stream, PUSH, PLAY), until=end, regions=("CN", "KR")
    )


def when(sent: Sent) -> tuple[Millis, str]:
    """Return the moment and the nonce with which a request was signed."""
    headers = sent.headers
    if "x-cnc-timestamp" in headers:
        return int(headers["x-cnc-timestamp"]) * 1000, "n"
    text = headers.get("x-sdk-date") or headers["x-acs-date"]
    return int(datetime.fromisoformat(text).timestamp()) * 1000, headers.get("x-acs-signature-nonce", "n")


def put(request: Request) -> None:
    """Send a request as the worker does."""

    async def exchange() -> None:
        transport = httpx.AsyncHTTPTransport(verify=TLS, trust_env=False)
        try:
            await _exchange(transport, _on_the_wire(request, _Progress(lambda: True)))
        finally:
            await transport.aclose()

    asyncio.run(exchange())


def both(recorder: Recorder, vendor: str, call: Call, way: str = "keys") -> tuple[Sent, Sent]:
    """Return our request and the SDK's for a call, made for the same moment with the same nonce."""
    ASK[vendor](recorder.url, call, way, TOKEN)
    theirs = recorder.take()
    put(adapter(vendor, recorder.url, way).request(call, *when(theirs)))
    return recorder.take(), theirs


def meaning(query: str) -> list[tuple[str, str]]:
    return sorted(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))


def differing(ours: Sent, theirs: Sent) -> set[str]:
    """Return the aspects in which two requests differ."""
    found = {name for name in ("method", "path") if getattr(ours, name) != getattr(theirs, name)}
    if meaning(ours.query) != meaning(theirs.query):
        found.add("query")
    elif ours.query != theirs.query:
        found.add("encoding of the query")
    content = [json.loads(sent.body) if sent.body else {} for sent in (ours, theirs)]
    if content[0] != content[1]:
        found |= {
            f"field {key}"
            for key in content[0].keys() | content[1].keys()
            if content[0].get(key) != content[1].get(key)
        }
    elif ours.body != theirs.body:
        found.add("spelling of the body")
    headers = (ours.headers.keys() | theirs.headers.keys()) - {"content-length"}
    return found | {
        f"header {name}" for name in headers if ours.headers.get(name) != theirs.headers.get(name)
    }


@pytest.mark.parametrize(
    ("vendor", "operation", "purpose", "way"),
    [(*each, way) for each in OPERATIONS for way in WAYS[each[0]]],
)
def test_our_request_differs_from_the_sdks_as_listed_and_not_otherwise(
    recorder: Recorder, vendor: str, operation: str, purpose: Purpose, way: str
) -> None:
    ours, theirs = both(recorder, vendor, a_call(operation, purpose), way)
    assert differing(ours, theirs) == expected(vendor, operation, way)


def test_our_request_for_a_token_is_the_sdks(recorder: Recorder) -> None:
    huawei_token(recorder.url, "sandbox-user", "sandbox-password", "sandbox-domain")
    theirs = recorder.take()
    settings = SETTINGS["huawei"] | MORE["huawei", "token"] | {"iam.endpoint": recorder.url}
    vendor = make(load_spec("huawei"), Account("a", "huawei", settings, recorder.url))
    assert isinstance(vendor, LogsIn)
    request = vendor.login(0)
    assert request is not None
    put(request)
    ours = recorder.take()
    signature = {"header authorization", "header x-sdk-date", "header x-project-id"}
    client = {"header connection", "header accept-encoding", "header user-agent", "header accept"}
    same_meaning = {"header content-type", "spelling of the body"}  # a charset, the order of the fields
    assert differing(ours, theirs) == signature | client | same_meaning


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("vendor", "operation", "purpose"), OPERATIONS)
def test_no_name_of_a_stream_is_sent_otherwise_than_by_the_sdk(
    recorder: Recorder, vendor: str, operation: str, purpose: Purpose, name: str
) -> None:
    ours, theirs = both(recorder, vendor, a_call(operation, purpose, NAMES[name]))
    encoded = (vendor, name) in ENCODED and "StreamName" in ours.query
    assert differing(ours, theirs) == expected(vendor, operation) | (
        {"encoding of the query"} if encoded else set()
    )


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize(("vendor", "operation", "purpose"), ENDING)
def test_no_zone_of_the_machine_moves_an_end(
    recorder: Recorder, zone: str, vendor: str, operation: str, purpose: Purpose, moment: str
) -> None:
    until = int(datetime.fromisoformat(MOMENTS[moment]).timestamp()) * 1000
    call = a_call(operation, purpose, until=until)
    now = until - 3_600_000
    put(adapter(vendor, recorder.url).request(call, now, "n"))
    ours = recorder.take()
    ASK[vendor](recorder.url, call)
    theirs = recorder.take()
    assert the_end(ours) == the_end(theirs) == until, zone


def the_end(sent: Sent) -> Millis:
    """Return the moment that a request asks for."""
    fields = {**dict(meaning(sent.query)), **(json.loads(sent.body) if sent.body else {})}
    (text,) = (
        fields[name] for name in ("ResumeTime", "ReleaseTime", "abstimeEnd", "resume_time") if name in fields
    )
    return int(text) * 1000 if text.isdecimal() else int(datetime.fromisoformat(text).timestamp()) * 1000


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("vendor", "operation", "purpose"), OPERATIONS)
def test_the_sdks_signer_gives_our_signature_for_our_request(
    vendor: str, operation: str, purpose: Purpose, name: str
) -> None:
    now = int(time.time()) * 1000
    endpoint = "https://vendor.example"
    request = adapter(vendor, endpoint).request(a_call(operation, purpose, NAMES[name]), now, "a nonce")
    assert SIGNERS[vendor](request) == request.headers["authorization"]


@pytest.mark.parametrize("vendor", sorted(SIGNERS))
def test_the_sdks_signer_sees_another_request(vendor: str) -> None:
    name = load_spec(vendor).serving("forbid")
    assert name is not None
    request = adapter(vendor, "https://vendor.example").request(
        a_call(name.name, "forbid"), int(time.time()) * 1000, "a nonce"
    )
    other = replace(
        request,
        url=f"{request.url}&x=1" if vendor == "aliyun" else request.url,
        content=request.content + b" ",
    )
    assert SIGNERS[vendor](other) != request.headers["authorization"]
