"""What goes over the wire, byte for byte.

The signatures and parameters below were compared once with those of the vendor's own SDK
(alibabacloud-live20161101 3.0.2, alibabacloud-tea-openapi 0.4.6) and frozen here.
"""

import time
from collections.abc import Iterator
from urllib.parse import parse_qsl, urlsplit

import pytest

from tests.vendors.aliyun.given import NOW, PURPOSES, SECRET, TOKEN, UNTIL, call, vendor
from worker.vendors import load_spec
from worker.vendors.aliyun.sign import Credentials, sign
from worker.vendors.reading import query
from worker.words import Purpose

ODD = "直播 a+b*c~d%41/e"
ODD_ENCODED = "%E7%9B%B4%E6%92%AD%20a%2Bb%2Ac~d%2541%2Fe"
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_the_published_vector() -> None:
    """From the page of signature V3: its fixed example."""
    headers = sign(
        host="ecs.cn-shanghai.aliyuncs.com",
        query=query(
            {"RegionId": "cn-shanghai", "ImageId": "win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd"}
        ),
        action="RunInstances",
        version="2014-05-26",
        credentials=Credentials("YourAccessKeyId", "YourAccessKeySecret"),
        now=1_698_315_752_000,
        nonce="3156853299f313e23d1673dc12e1703d",
    )
    assert headers["x-acs-date"] == "2023-10-26T10:22:32Z"
    assert headers["authorization"] == (
        "ACS3-HMAC-SHA256 Credential=YourAccessKeyId,"
        "SignedHeaders=host;x-acs-action;x-acs-content-sha256;x-acs-date;x-acs-signature-nonce;x-acs-version,"
        "Signature=06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0"
    )


REQUESTS = {
    ("forbid", "cut"): (
        "ForbidLiveStream",
        f"AppName=live&DomainName=push.acme.example&LiveStreamType=publisher&Oneshot=yes&StreamName={ODD_ENCODED}",
        "5a7aa2bac2741f95543540f11749decf9f19668b54dd1fd6a6c35f948b2fc155",
    ),
    ("forbid", "forbid"): (
        "ForbidLiveStream",
        (
            "AppName=live&DomainName=push.acme.example&LiveStreamType=publisher&Oneshot=no"
            f"&ResumeTime=2026-11-22T10%3A15%3A01Z&StreamName={ODD_ENCODED}"
        ),
        "653aa6670cf5ef9a1ff6e8e677cbd709f06a6e084df851c7a54ba5ffc5840fcf",
    ),
    ("resume", "lift"): (
        "ResumeLiveStream",
        f"AppName=live&DomainName=push.acme.example&LiveStreamType=publisher&StreamName={ODD_ENCODED}",
        "f255faece8219fda96c7cb338376652110abcb79b3f1a03baff67014c5d25a4f",
    ),
    ("set_region_block", "block_regions"): (
        "SetLiveStreamBlock",
        (
            "AppName=live&BlockType=blacklist&DomainName=play.acme.example&LocationList=CN%2CKR"
            f"&ReleaseTime=2026-11-22T10%3A15%3A01Z&StreamName={ODD_ENCODED}"
        ),
        "7b5966c1bbf1c5dc6fede87d2ee472ac0597d19e0031d2ba253e32474aaefd1e",
    ),
    ("delete_region_block", "unblock_regions"): (
        "DeleteLiveStreamBlock",
        f"AppName=live&DomainName=play.acme.example&StreamName={ODD_ENCODED}",
        "6f6867164a01af75ac662c5853ee6284130f543c356724b444f9649596df5aba",
    ),
    ("describe_region_block", "read_regions"): (
        "DescribeStreamLocationBlock",
        (
            "AppName=live&BlockType=blacklist&DomainName=play.acme.example&PageNum=1&PageSize=100"
            f"&StreamName={ODD_ENCODED}"
        ),
        "31fcd460acd3c4ee09cc36791039b59b224660027e0a8c638763abe8696dd9df",
    ),
    ("list_blocked", "read_forbid"): (
        "DescribeLiveStreamsBlockList",
        "DomainName=play.acme.example&PageNum=1&PageSize=1000",
        "af3c1f8b4136fce653216d9d7bf56825486d8c2f3d5805c4141ff5493f47cf1b",
    ),
    ("list_online", "read_live"): (
        "DescribeLiveStreamsOnlineList",
        f"AppName=live&DomainName=play.acme.example&PageNum=1&PageSize=500&QueryType=strict&StreamName={ODD_ENCODED}",
        "8355a9cdeb8e41f4a90e29d2c26b3c3a6393cdc8a5d63878bf8d5f0d813f1a7b",
    ),
    ("stream_state", "read_live"): (
        "DescribeLiveStreamState",
        f"AppName=live&DomainName=push.acme.example&StreamName={ODD_ENCODED}",
        "7ab6f89c44fe77a8aac892027020b2f194ae3c7a6ce7e04dd7b70e5d876a354f",
    ),
}


@pytest.fixture(params=["UTC", "Asia/Shanghai"])
def _zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("_zone")
@pytest.mark.parametrize(("operation", "purpose"), REQUESTS)
def test_the_bytes_of_each_operation_in_any_time_zone(operation: str, purpose: Purpose) -> None:
    action, text, signature = REQUESTS[operation, purpose]

    request = vendor().request(call(operation, purpose=purpose, stream=ODD), NOW + 999, "nonce-1")

    assert (request.method, request.content) == ("POST", b"")
    assert request.url == f"https://live.aliyuncs.com/?{text}"
    assert request.headers == {
        "host": "live.aliyuncs.com",
        "accept": "application/json",
        "x-acs-action": action,
        "x-acs-version": "2016-11-01",
        "x-acs-date": "2026-11-22T10:05:00Z",
        "x-acs-signature-nonce": "nonce-1",
        "x-acs-content-sha256": EMPTY,
        "authorization": (
            "ACS3-HMAC-SHA256 Credential=AKEXAMPLE,SignedHeaders=host;x-acs-action;x-acs-content-sha256;"
            f"x-acs-date;x-acs-signature-nonce;x-acs-version,Signature={signature}"
        ),
    }


def test_every_operation_is_covered_here() -> None:
    spec = load_spec("aliyun")

    assert spec.operations.keys() == {operation for operation, _ in REQUESTS} == PURPOSES.keys()
    serving = {purpose: op.name for op in spec.operations.values() for purpose in op.serves}
    assert serving == {purpose: operation for operation, purpose in REQUESTS if operation != "stream_state"}
    assert "move_end" not in serving


@pytest.mark.parametrize(
    "name", ["直播间", "a b", "a+b", "a*b", "a~b", "a%b", "a%2Fb", "a/b", "a&b=c", "é\u0301"]
)
def test_names_arrive_as_they_are(name: str) -> None:
    url = vendor().request(call("forbid", stream=name, app=name), NOW, "n").url

    assert url.isascii()
    assert " " not in url
    assert "+" not in url
    sent = dict(parse_qsl(urlsplit(url).query, strict_parsing=True))
    assert (sent["AppName"], sent["StreamName"]) == (name, name)


def test_push_and_play_domains_are_never_mixed_up() -> None:
    spec = load_spec("aliyun")
    for operation in spec.operations.values():
        sent = dict(parse_qsl(urlsplit(vendor().request(call(operation.name), NOW, "n").url).query))
        needed = {"push_domain": "push.acme.example", "play_domain": "play.acme.example"}
        assert [sent["DomainName"]] == [needed[name] for name in operation.needs]


def test_a_missing_domain_is_refused_before_it_is_sent() -> None:
    for operation in load_spec("aliyun").operations.values():
        lacking = (
            call(operation.name, push=None)
            if "push_domain" in operation.needs
            else call(operation.name, play=None)
        )
        with pytest.raises(ValueError, match="domain"):
            vendor().request(lacking, NOW, "n")


@pytest.mark.parametrize(("app", "stream"), [("*", "room42"), ("live", "*")])
@pytest.mark.parametrize("operation", sorted(PURPOSES.keys() - {"list_blocked"}))
def test_a_wildcard_names_no_stream(operation: str, app: str, stream: str) -> None:
    with pytest.raises(ValueError, match="every one"):
        vendor().request(call(operation, app=app, stream=stream), NOW, "n")


def test_no_end_means_the_longest_that_is_known_to_be_taken() -> None:
    ban = vendor().request(call("forbid", until=None), NOW, "n").url
    block = vendor().request(call("set_region_block", until=None), NOW, "n").url

    assert "ResumeTime=2027-05-21T10%3A05%3A00Z" in ban
    assert "ReleaseTime=2026-11-29T10%3A05%3A00Z" in block


@pytest.mark.parametrize("operation", ["forbid", "set_region_block"])
@pytest.mark.parametrize("until", [NOW, NOW - 1, 0])
def test_an_end_that_has_passed_is_not_asked_for(operation: str, until: int) -> None:
    with pytest.raises(ValueError, match="passed"):
        vendor().request(call(operation, until=until), NOW, "n")


def test_a_region_block_without_regions_is_not_asked_for() -> None:
    with pytest.raises(ValueError, match="region"):
        vendor().request(call("set_region_block", regions=()), NOW, "n")


def test_a_page_is_asked_for_by_its_cursor() -> None:
    for operation in ("describe_region_block", "list_blocked", "list_online"):
        assert "PageNum=3&" in vendor().request(call(operation, cursor="3"), NOW, "n").url


def test_a_security_token_is_sent_and_signed() -> None:
    """The signature was compared with the SDK's as well."""
    headers = vendor(security_token=TOKEN).request(call("resume"), NOW, "nonce-1").headers

    assert headers["x-acs-security-token"] == TOKEN
    assert "x-acs-security-token;x-acs-signature-nonce;x-acs-version,Signature=" in headers["authorization"]
    assert (
        headers["authorization"]
        != vendor(security_token="other").request(call("resume"), NOW, "nonce-1").headers["authorization"]
    )


@pytest.mark.parametrize(
    ("region", "endpoint", "address"),
    [
        ("", None, "https://live.aliyuncs.com"),
        ("cn-shanghai", None, "https://live.aliyuncs.com"),
        ("ap-southeast-1", None, "https://live.ap-southeast-1.aliyuncs.com"),
        ("eu-central-1", None, "https://live.eu-central-1.aliyuncs.com"),
        ("ap-southeast-1", "http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("", "https://proxy.example:443/", "https://proxy.example"),
    ],
)
def test_where_requests_go(region: str, endpoint: str | None, address: str) -> None:
    request = vendor(endpoint, region=region).request(call("resume"), NOW, "n")

    assert request.url.startswith(f"{address}/?AppName=")
    assert request.headers["host"] == urlsplit(address).netloc


def test_requests_differ_by_nonce_and_second() -> None:
    adapter = vendor()

    def proof(now: int, nonce: str) -> str:
        return adapter.request(call("forbid"), now, nonce).headers["authorization"]

    assert proof(NOW, "a") == proof(NOW, "a")
    assert len({proof(NOW, "a"), proof(NOW, "b"), proof(NOW + 1000, "a")}) == 3


def test_only_the_list_of_bans_is_shared_page_by_page() -> None:
    adapter = vendor()
    shared = {name for name in PURPOSES if adapter.shared(call(name)) is not None}

    assert shared == {"list_blocked"}
    first = call("list_blocked", stream="a")
    assert adapter.shared(first) == adapter.shared(call("list_blocked", stream="b", app="c", push=None))
    assert adapter.shared(first) == adapter.shared(call("list_blocked", cursor="1"))
    assert adapter.shared(first) != adapter.shared(call("list_blocked", cursor="2"))
    assert adapter.shared(first) != adapter.shared(call("list_blocked", play="other.example"))
    assert adapter.shared(call("list_blocked", play=None)) is None
    assert adapter.request(first, NOW, "n") == adapter.request(call("list_blocked", stream="b"), NOW, "n")


def test_nothing_shows_a_secret_or_a_stream_name() -> None:
    adapter = vendor(security_token=TOKEN)
    request = adapter.request(call("forbid", stream="sekrit-name"), NOW, "n")
    texts = [repr(adapter), repr(request), str(request), repr(Credentials("AKEXAMPLE", SECRET, TOKEN))]
    for broken in (
        call("forbid", stream="sekrit-name", push=None),
        call("forbid", stream="sekrit-name", until=NOW),
    ):
        with pytest.raises(ValueError, match=r"domain|passed") as error:
            adapter.request(broken, NOW, "n")
        texts.append(repr(error.value))

    assert UNTIL > NOW
    for text in texts:
        assert not any(word in text for word in (SECRET, TOKEN, "sekrit-name"))
