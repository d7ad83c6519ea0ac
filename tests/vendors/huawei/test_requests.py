"""What goes out for each operation, byte for byte."""

import os
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from worker.vendors import load_spec, make
from worker.vendors.base import Account, Request, Vendor
from worker.words import Call, Purpose, Target

SETTINGS = {
    "region": "cn-north-4",
    "project_id": "0a1b2c3d4e5f60718293a4b5c6d7e8f9",
    "access_key": "AK-visible",
    "secret_key": "SK-visible",
}
NOW = 1_795_342_500_000  # 2026-11-22T10:15:00Z
DAY = 86_400_000
BASE = "https://live.cn-north-4.myhuaweicloud.com/v1/0a1b2c3d4e5f60718293a4b5c6d7e8f9"
ODD_NAME = "房间 42/+*~%"
ODD_ESCAPED = "%E6%88%BF%E9%97%B4%2042%2F%2B%2A~%25"


def huawei(endpoint: str | None = None, **settings: str) -> Vendor:
    return make(load_spec("huawei"), Account("hw", "huawei", SETTINGS | settings, endpoint))


def call(
    operation: str,
    stream: str = "room42",
    *,
    until: int | None = None,
    cursor: str | None = None,
    push_domain: str | None = "push.acme.example",
    app: str = "live",
) -> Call:
    purposes = {name: spec.serves[0] for name, spec in load_spec("huawei").operations.items()}
    purpose: Purpose = purposes[operation]
    return Call("c", purpose, operation, Target("hw", app, stream, push_domain), until=until, cursor=cursor)


def sent(operation: str, stream: str = "room42", **more: Any) -> Request:
    return huawei().request(call(operation, stream, **more), NOW, "nonce")


BODY = b'{"domain": "push.acme.example", "app_name": "live", "stream_name": "room42"'
NAMES = "app_name=live&domain=push.acme.example"


@pytest.mark.parametrize(
    ("operation", "method", "path", "content"),
    [
        ("block_once", "POST", "/stream/block-once", BODY + b"}"),
        ("block", "POST", "/stream/blocks", BODY + b', "resume_time": "2026-11-22T10:25:00Z"}'),
        ("update_block", "PUT", "/stream/blocks", BODY + b', "resume_time": "2026-11-22T10:25:00Z"}'),
        ("unblock", "DELETE", f"/stream/blocks?{NAMES}&stream_name=room42", b""),
        ("list_blocks", "GET", f"/stream/blocks?{NAMES}&page=0&size=100&stream_name=room42", b""),
        (
            "list_online",
            "GET",
            "/realtime/streams?app=live&limit=100&offset=0&publish_domain=push.acme.example&stream=room42",
            b"",
        ),
    ],
)
def test_the_request_of_each_operation(operation: str, method: str, path: str, content: bytes) -> None:
    request = sent(operation, until=NOW + 600_000)
    assert (request.method, request.url, request.content) == (method, BASE + path, content)
    headers = dict(request.headers)
    assert headers.pop("authorization").startswith(
        "SDK-HMAC-SHA256 Access=AK-visible, "
        "SignedHeaders=content-type;host;x-project-id;x-sdk-date, Signature="
    )
    assert headers == {
        "content-type": "application/json",
        "host": "live.cn-north-4.myhuaweicloud.com",
        "x-project-id": "0a1b2c3d4e5f60718293a4b5c6d7e8f9",
        "x-sdk-date": "20261122T101500Z",
    }


def test_every_operation_of_the_spec_has_a_request() -> None:
    operations = load_spec("huawei").operations
    assert list(operations) == [
        "block_once",
        "block",
        "update_block",
        "unblock",
        "list_blocks",
        "list_online",
    ]
    for operation in operations:
        assert sent(operation).url.startswith(BASE)


@pytest.mark.parametrize("operation", ["unblock", "list_blocks", "list_online"])
def test_odd_names_stand_escaped_in_the_query(operation: str) -> None:
    name = "stream" if operation == "list_online" else "stream_name"
    assert sent(operation, ODD_NAME).url.endswith(f"&{name}={ODD_ESCAPED}")


@pytest.mark.parametrize("operation", ["block_once", "block", "update_block"])
def test_odd_names_stand_escaped_in_the_body(operation: str) -> None:
    assert b'"stream_name": "\\u623f\\u95f4 42/+*~%"' in sent(operation, ODD_NAME).content


@pytest.mark.parametrize("operation", ["unblock", "list_blocks", "list_online", "block"])
def test_httpx_sends_the_signed_url_and_host_as_they_are(operation: str) -> None:
    request = sent(operation, ODD_NAME)
    wire = httpx.Request(request.method, request.url, headers=request.headers, content=request.content)
    assert f"https://{wire.headers['host']}{wire.url.raw_path.decode()}" == request.url


@pytest.mark.parametrize(
    ("until", "text"),
    [
        (NOW + 600_000, b"2026-11-22T10:25:00Z"),
        (NOW + 600_001, b"2026-11-22T10:25:01Z"),
        (NOW + 600_999, b"2026-11-22T10:25:01Z"),
        (NOW + 90 * DAY, b"2027-02-20T09:15:00Z"),
        (NOW + 90 * DAY + 1, b"2027-02-20T09:15:00Z"),
        (NOW + 400 * DAY, b"2027-02-20T09:15:00Z"),
        (1 << 60, b"2027-02-20T09:15:00Z"),
        (None, b"2027-02-20T09:15:00Z"),
    ],
)
@pytest.mark.parametrize("operation", ["block", "update_block"])
def test_an_end_is_rounded_up_and_never_beyond_the_longest(
    operation: str, until: int | None, text: bytes
) -> None:
    assert sent(operation, until=until).content.endswith(b'"resume_time": "' + text + b'"}')


def test_the_longest_end_is_rounded_down_so_that_it_is_not_beyond() -> None:
    request = huawei().request(call("block"), NOW + 999, "nonce")
    assert request.content.endswith(b'"2027-02-20T09:15:00Z"}')


def test_a_later_page_is_asked_for_by_its_cursor() -> None:
    assert "&page=3&size=100&" in sent("list_blocks", cursor="3").url
    assert "&limit=100&offset=300&" in sent("list_online", cursor="300").url


@pytest.mark.parametrize("operation", list(load_spec("huawei").operations))
@pytest.mark.parametrize("wrong", [{"push_domain": None}, {"stream": "*"}, {"app": "*"}])
def test_a_call_that_could_hit_more_than_one_stream_is_not_made(
    operation: str, wrong: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=operation):
        huawei().request(call(operation, **wrong), NOW, "nonce")


def test_an_operation_of_another_vendor_is_not_made() -> None:
    other = Call("c", "lift", "resume", Target("hw", "live", "room42", "push.acme.example"))
    with pytest.raises(ValueError, match="huawei has no operation resume"):
        huawei().request(other, NOW, "nonce")


def test_temporary_keys_send_and_sign_their_token() -> None:
    headers = huawei(security_token="TOKEN").request(call("block_once"), NOW, "nonce").headers
    assert headers["x-security-token"] == "TOKEN"
    assert ";x-sdk-date;x-security-token, " in headers["authorization"]


@pytest.mark.parametrize(
    ("endpoint", "host"),
    [
        ("https://proxy.acme.example", "proxy.acme.example"),
        ("https://Proxy.Acme.Example:443/", "proxy.acme.example"),
        ("http://127.0.0.1:8080", "127.0.0.1:8080"),
        ("http://[::1]:8080", "[::1]:8080"),
    ],
)
def test_an_endpoint_takes_the_place_of_the_regions(endpoint: str, host: str) -> None:
    request = huawei(endpoint, region="").request(call("block_once"), NOW, "nonce")
    assert request.headers["host"] == host
    assert request.url.startswith(f"{endpoint[: endpoint.index(':')]}://{host}/v1/0a1b2c3d")


def test_a_read_is_not_shared() -> None:
    assert huawei().shared(call("list_blocks")) is None


@pytest.fixture
def shanghai() -> Iterator[None]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = "Asia/Shanghai"
    time.tzset()
    yield
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


REFERENCE = {name: sent(name, until=NOW + 600_000) for name in load_spec("huawei").operations}


@pytest.mark.usefixtures("shanghai")
@pytest.mark.parametrize("operation", list(REFERENCE))
def test_the_hosts_time_zone_changes_nothing(operation: str) -> None:
    assert time.localtime(0).tm_hour == 8
    again, reference = sent(operation, until=NOW + 600_000), REFERENCE[operation]
    assert (again.url, again.headers, again.content) == (
        reference.url,
        reference.headers,
        reference.content,
    )


@pytest.mark.parametrize(
    ("settings", "endpoint", "message"),
    [
        ({"region": ""}, None, "region: expected"),
        ({"region": "evil.example/#"}, None, "region: expected"),
        ({}, "https://proxy.acme.example/path", "endpoint: expected https://HOST"),
        ({}, "ftp://proxy.acme.example", "endpoint: expected https://HOST"),
        ({}, "https://user:pw@proxy.acme.example", "endpoint: expected https://HOST"),
        ({"secret_key": "SK-visible\n"}, None, "secret_key: expected ASCII"),
        ({"access_key": "AK visible"}, None, "access_key: expected ASCII"),
        ({"security_token": "é"}, None, "security_token: expected ASCII"),
        ({"project_id": ""}, None, "project_id: expected a value"),
        (
            {"access_key": "", "secret_key": ""},
            None,
            r"exactly one of: access_key \+ secret_key; iam.user \+",
        ),
        ({"iam.user": "u", "iam.password": "visible"}, None, "expected exactly one of: "),
    ],
)
def test_wrong_settings_are_named_and_never_shown(
    settings: dict[str, str], endpoint: str | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        huawei(endpoint, **settings)
    assert "visible" not in str(caught.value)
    assert "pw" not in str(caught.value)


def test_no_repr_shows_a_secret_or_a_stream_name() -> None:
    vendor = huawei()
    request = vendor.request(call("block", "secretroom"), NOW, "nonce")
    for shown in (repr(vendor), repr(request), repr(call("block", "secretroom").target), str(vars(vendor))):
        assert "secretroom" not in shown
        assert "SK-visible" not in shown
    with pytest.raises(ValueError, match="push_domain") as caught:
        vendor.request(call("block", "secretroom", push_domain=None), NOW, "nonce")
    assert "secretroom" not in str(caught.value)
