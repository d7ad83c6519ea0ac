"""Signatures: the vendors' published examples are accepted, and nothing that was touched is."""

import json
from collections.abc import Iterator, Mapping

import httpx
import pytest

from tests.sandbox.signing import KEY, PUSH, START, Clock, Signer, utc
from worker.sandbox.simulators import AliyunSimulator, CdnetworksSimulator, HuaweiSimulator

pytestmark = pytest.mark.sandbox

# devg-apisign: the worked example of the API signing guide.
HUAWEI_KEY, HUAWEI_SECRET = "QTWAOYTTINDUT2QVKYUC", "MFyfvK41ba2giqM7Uio6PznpdUKGpownRZlmVmHc"
HUAWEI_URL = "/v1/77b6a44cba5143ab91d13ab9a8ff44fd/vpcs?limit=2&marker=13551d6b-755d-4757-b956-536f674975c0"
HUAWEI_HEADERS = {
    "Host": "service.region.example.com",
    "Content-Type": "application/json",
    "X-Sdk-Date": "20191115T033655Z",
    "X-Project-Id": "not signed in the example",
    "Authorization": f"SDK-HMAC-SHA256 Access={HUAWEI_KEY}, SignedHeaders=content-type;host;x-sdk-date, "
    "Signature=7be6668032f70418fcc22abc52071e57aff61b84a1d2381bb430d6870f4f6ebe",
}

# The example of the page on V3 signatures (RunInstances).
ALIYUN_URL = "/?ImageId=win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd&RegionId=cn-shanghai"
ALIYUN_HEADERS = {
    "Host": "ecs.cn-shanghai.aliyuncs.com",
    "x-acs-action": "RunInstances",
    "x-acs-content-sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "x-acs-date": "2023-10-26T10:22:32Z",
    "x-acs-signature-nonce": "3156853299f313e23d1673dc12e1703d",
    "x-acs-version": "2014-05-26",
    "Authorization": "ACS3-HMAC-SHA256 Credential=YourAccessKeyId,SignedHeaders=host;x-acs-action;"
    "x-acs-content-sha256;x-acs-date;x-acs-signature-nonce;x-acs-version,"
    "Signature=06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0",
}

# Made with the vendor's SDK (keys) and from the published recipe (user and API key).
CDN_BODY = b'{"liveUrl":"rtmp://push.example.com/live/stream1","reltime":"300","type":"publish"}'
CDN_HEADERS = {
    "Host": "api.cdnetworks.com",
    "Content-Type": "application/json",
    "x-cnc-accessKey": "AKEXAMPLE",
    "x-cnc-timestamp": "1532413615",
    "Authorization": "CNC-HMAC-SHA256 Credential=AKEXAMPLE, SignedHeaders=content-type;host, "
    "Signature=15839f573b42b3b94bd646dd52919873b22e8ec208c8b7b37b7e39d17bc4dd25",
}
CDN_DOMAINS = {"push.example.com": "play.example.com"}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def huawei(clock: Clock) -> Iterator[HuaweiSimulator]:
    accounts = {HUAWEI_KEY: HUAWEI_SECRET, KEY: "sandbox-secret", "temporary": "sandbox-secret"}
    with HuaweiSimulator(accounts=accounts, security_tokens={"temporary": "t"}, clock=clock) as simulator:
        yield simulator


@pytest.fixture
def aliyun(clock: Clock) -> Iterator[AliyunSimulator]:
    accounts = {
        "YourAccessKeyId": "YourAccessKeySecret",
        KEY: "sandbox-secret",
        "temporary": "sandbox-secret",
    }
    with AliyunSimulator(accounts=accounts, security_tokens={"temporary": "t"}, clock=clock) as simulator:
        yield simulator


@pytest.fixture
def cdn(clock: Clock) -> Iterator[CdnetworksSimulator]:
    accounts = {"AKEXAMPLE": "SKEXAMPLE", "username": "apiKey", KEY: "sandbox-secret"}
    with CdnetworksSimulator(accounts=accounts, domains=CDN_DOMAINS, clock=clock) as simulator:
        yield simulator


def changed(headers: Mapping[str, str], **changes: str) -> dict[str, str]:
    return {**headers, **{name.replace("_", "-"): value for name, value in changes.items()}}


def test_huawei_accepts_the_published_example(
    http: httpx.Client, huawei: HuaweiSimulator, clock: Clock
) -> None:
    clock.now = 1_573_789_015_000
    answer = http.get(huawei.url + HUAWEI_URL, headers=HUAWEI_HEADERS)
    assert (answer.status_code, answer.json()["error_code"]) == (404, "APIGW.0101")
    assert huawei.lines()[0]["signature_ok"] is True


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        (HUAWEI_URL.replace("limit=2", "limit=3"), HUAWEI_HEADERS),
        (HUAWEI_URL.replace("vpcs", "vpc"), HUAWEI_HEADERS),
        (HUAWEI_URL, changed(HUAWEI_HEADERS, Host="other.example.com")),
        (HUAWEI_URL, changed(HUAWEI_HEADERS, X_Sdk_Date="20191115T033656Z")),
        (
            HUAWEI_URL,
            changed(HUAWEI_HEADERS, Authorization=HUAWEI_HEADERS["Authorization"].replace("7be", "8be")),
        ),
        (HUAWEI_URL, {k: v for k, v in HUAWEI_HEADERS.items() if k != "Authorization"}),
        (HUAWEI_URL, {k: v for k, v in HUAWEI_HEADERS.items() if k != "X-Project-Id"}),
    ],
)
def test_huawei_refuses_the_example_when_it_was_touched(
    http: httpx.Client, huawei: HuaweiSimulator, clock: Clock, url: str, headers: dict[str, str]
) -> None:
    clock.now = 1_573_789_015_000
    answer = http.get(huawei.url + url, headers=headers)
    assert (answer.status_code, answer.json()["error_code"]) == (401, "APIGW.0301")
    assert huawei.stats()["signatures_refused"] == 1


def test_huawei_refuses_an_old_signature_and_a_wrong_token(
    http: httpx.Client, huawei: HuaweiSimulator, clock: Clock
) -> None:
    query = {"domain": PUSH}
    signer = Signer(http, huawei.url, Clock(START - 14 * 60_000))
    assert signer.huawei("GET", "stream/blocks", query).status_code == 200
    signer.clock.now = START - 16 * 60_000
    assert "signature expired" in signer.huawei("GET", "stream/blocks", query).json()["error_msg"]
    temporary = Signer(http, huawei.url, clock, key="temporary")
    assert temporary.huawei("GET", "stream/blocks", query, {"x-security-token": "t"}).status_code == 200
    assert temporary.huawei("GET", "stream/blocks", query, {"x-security-token": "u"}).status_code == 401
    assert temporary.huawei("GET", "stream/blocks", query).status_code == 401


def test_aliyun_accepts_the_published_example_once(
    http: httpx.Client, aliyun: AliyunSimulator, clock: Clock
) -> None:
    clock.now = 1_698_315_752_000
    first = http.post(aliyun.url + ALIYUN_URL, headers=ALIYUN_HEADERS)
    assert (first.status_code, first.json()["Code"]) == (404, "InvalidApi.NotFound")
    again = http.post(aliyun.url + ALIYUN_URL, headers=ALIYUN_HEADERS)
    assert (again.status_code, again.json()["Code"]) == (400, "SignatureNonceUsed")


@pytest.mark.parametrize(
    ("url", "headers", "code"),
    [
        (ALIYUN_URL.replace("shanghai", "beijing"), ALIYUN_HEADERS, "SignatureDoesNotMatch"),
        (ALIYUN_URL, changed(ALIYUN_HEADERS, Host="live.aliyuncs.com"), "SignatureDoesNotMatch"),
        (ALIYUN_URL, changed(ALIYUN_HEADERS, x_acs_action="StopInstances"), "SignatureDoesNotMatch"),
        (ALIYUN_URL, changed(ALIYUN_HEADERS, x_acs_content_sha256="0" * 64), "SignatureDoesNotMatch"),
        (ALIYUN_URL, changed(ALIYUN_HEADERS, x_acs_unsigned="x"), "IncompleteSignature"),
        (ALIYUN_URL, changed(ALIYUN_HEADERS, Authorization="Bearer x"), "IncompleteSignature"),
        (ALIYUN_URL, changed(ALIYUN_HEADERS, x_acs_date="26 Oct 2023"), "InvalidTimeStamp.Format"),
        (
            ALIYUN_URL,
            changed(ALIYUN_HEADERS, Authorization=ALIYUN_HEADERS["Authorization"].replace("YourA", "MyA")),
            "InvalidAccessKeyId.NotFound",
        ),
    ],
)
def test_aliyun_refuses_the_example_when_it_was_touched(
    http: httpx.Client, aliyun: AliyunSimulator, clock: Clock, url: str, headers: dict[str, str], code: str
) -> None:
    clock.now = 1_698_315_752_000
    answer = http.post(aliyun.url + url, headers=headers)
    assert answer.json()["Code"] == code
    assert aliyun.lines()[0]["signature_ok"] is False


def test_aliyun_reads_plus_as_space_and_refuses_old_signatures_and_wrong_tokens(
    http: httpx.Client, aliyun: AliyunSimulator, clock: Clock
) -> None:
    names = {"DomainName": PUSH, "AppName": "a b", "StreamName": "c+d*~/é"}
    assert Signer(http, aliyun.url, clock).aliyun("DescribeLiveStreamState", names).status_code == 200
    assert aliyun.lines()[0]["stream"] == "c+d*~/é"
    late = Signer(http, aliyun.url, Clock(START - 16 * 60_000)).aliyun("DescribeLiveStreamState", names)
    assert (late.status_code, late.json()["Code"]) == (400, "InvalidTimeStamp.Expired")
    temporary = Signer(http, aliyun.url, clock, key="temporary")
    assert temporary.aliyun("DescribeLiveStreamState", names).status_code == 400
    token = {"x-acs-security-token": "t"}
    assert temporary.aliyun("DescribeLiveStreamState", names, token).status_code == 200


def test_cdnetworks_accepts_the_signed_example_once(
    http: httpx.Client, cdn: CdnetworksSimulator, clock: Clock
) -> None:
    clock.now = 1_532_413_615_000
    url = f"{cdn.url}/api/live/forbid"
    first = http.post(url, headers=CDN_HEADERS, content=CDN_BODY)
    assert (first.status_code, first.json()["code"]) == (200, "0")
    assert http.post(url, headers=CDN_HEADERS, content=CDN_BODY).status_code == 401
    clock.now += 300_001
    assert "too far off" in http.post(url, headers=CDN_HEADERS, content=CDN_BODY).json()["message"]


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (CDN_HEADERS, CDN_BODY.replace(b"300", b"301")),
        (changed(CDN_HEADERS, Content_Type="application/json; charset=utf-8"), CDN_BODY),
        (changed(CDN_HEADERS, x_cnc_timestamp="1532413616"), CDN_BODY),
        (changed(CDN_HEADERS, x_cnc_accessKey="other"), CDN_BODY),
        (
            changed(CDN_HEADERS, Authorization=CDN_HEADERS["Authorization"].replace("content-type;", "")),
            CDN_BODY,
        ),
    ],
)
def test_cdnetworks_refuses_the_signed_example_when_it_was_touched(
    http: httpx.Client, cdn: CdnetworksSimulator, clock: Clock, headers: dict[str, str], body: bytes
) -> None:
    clock.now = 1_532_413_615_000
    assert http.post(f"{cdn.url}/api/live/forbid", headers=headers, content=body).status_code == 401
    assert cdn.state()["bans"] == []


@pytest.mark.parametrize("date_header", ["Date", "x-cnc-date"])
def test_cdnetworks_accepts_the_api_key_example_at_its_time_only(
    http: httpx.Client, cdn: CdnetworksSimulator, clock: Clock, date_header: str
) -> None:
    headers = {
        "Authorization": "Basic dXNlcm5hbWU6RlF3TnMrQkV2Q1FFWkpFcGRlOUdpKzVlUjV3PQ==",
        date_header: "Sun, 11 Feb 2018 08:22:10 GMT",
        "Content-Type": "application/json",
    }
    url, body = f"{cdn.url}/cm/stream/forbidQuery", json.dumps({"channel": "push.example.com"})
    clock.now = 1_518_337_330_000
    assert utc(clock.now) == "2018-02-11T08:22:10Z"
    assert http.post(url, headers=headers, content=body).json()["code"] == "00"
    moved = {**headers, date_header: "Sun, 11 Feb 2018 08:22:11 GMT"}
    assert http.post(url, headers=moved, content=body).status_code == 401
    clock.now += 300_001
    assert http.post(url, headers=headers, content=body).status_code == 401


def test_our_own_signing_of_both_cdnetworks_schemes_is_accepted(
    http: httpx.Client, cdn: CdnetworksSimulator, clock: Clock
) -> None:
    signer = Signer(http, cdn.url, clock)
    body = {"liveUrl": "rtmp://push.example.com/live/s"}
    assert signer.cdn("/api/live/stop", body).json()["code"] == "0"
    assert signer.cdn_keys("/api/live/stop", body).json()["code"] == "0"
    signer.secret = "wrong"
    assert signer.cdn("/api/live/stop", body).status_code == 401
    assert signer.cdn_keys("/api/live/stop", body).status_code == 401
