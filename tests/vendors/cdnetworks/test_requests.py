"""What goes over the wire, byte for byte.

The access-key signatures were compared once with those of the vendor's own SDK (wangsu-sdk-python 1.0.0),
the API-key one was made with openssl as the vendor's shell example does; both are frozen here.
"""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.vendors.cdnetworks.given import ACCESS_KEY, API_KEY, NOW, PURPOSES, UNTIL, call, vendor
from worker.vendors import load_spec, make
from worker.vendors.base import Account
from worker.vendors.cdnetworks.sign import access_key_headers, api_key_headers
from worker.words import Purpose

ODD = "直播 a+b*c~d%41/e"
ODD_URL = r"rtmp://push.acme.example/live/\u76f4\u64ad a+b*c~d%41/e"

REQUESTS = {
    "forbid": (
        "/api/live/forbid",
        f'{{"liveUrl":"{ODD_URL}","type":"publish","abstimeEnd":"1795342501"}}',
        "e0b2b41bff25fb44b59843046f1b7330854d0808147a4e559e9f4a560cf48543",
    ),
    "stop": (
        "/api/live/stop",
        f'{{"liveUrl":"{ODD_URL}","type":"publish"}}',
        "dbfdc4a89b97611fba3356dc638c6849bcab9838b2d47904c97230a8b5157a22",
    ),
    "resume": (
        "/api/live/resume",
        f'{{"liveUrl":"{ODD_URL}","type":"publish"}}',
        "a6c34b053ca333b726abb397219cf0c793d9381e5776ec89df51eecd843ddc73",
    ),
    "forbid_query": (
        "/cm/stream/forbidQuery",
        '{"channel":"push.acme.example"}',
        "4cf3ae5e4d5ef01344ac2c5d6eeea295f36ecd8d6636d1ed9c4b5f97da3212a7",
    ),
}


def sent(asked: Any, now: int = NOW) -> dict[str, str]:
    body: dict[str, str] = json.loads(vendor().request(asked, now, "n").content)
    return body


def test_the_published_recipe_for_an_api_key() -> None:
    """Date, account and key are those of the vendor's page."""
    headers = api_key_headers(username="username", api_key="apiKey", now=1_518_337_330_000)

    assert headers == {
        "date": "Sun, 11 Feb 2018 08:22:10 GMT",
        "authorization": "Basic dXNlcm5hbWU6RlF3TnMrQkV2Q1FFWkpFcGRlOUdpKzVlUjV3PQ==",
    }


def test_the_published_recipe_for_an_access_key() -> None:
    headers = access_key_headers(
        host="api.cdnetworks.com",
        path="/api/live/forbid",
        content_type="application/json",
        content=b'{"liveUrl":"rtmp://push.example.com/live/stream1","reltime":"300","type":"publish"}',
        access_key="AKEXAMPLE",
        secret_key="SKEXAMPLE",
        now=1_532_413_615_000,
    )
    assert headers == {
        "x-cnc-accesskey": "AKEXAMPLE",
        "x-cnc-timestamp": "1532413615",
        "x-cnc-auth-method": "AKSK",
        "authorization": (
            "CNC-HMAC-SHA256 Credential=AKEXAMPLE, SignedHeaders=content-type;host, "
            "Signature=15839f573b42b3b94bd646dd52919873b22e8ec208c8b7b37b7e39d17bc4dd25"
        ),
    }


def test_a_signed_header_counts_in_lower_case() -> None:
    proofs = {
        access_key_headers(
            host=host,
            path="/api/live/stop",
            content_type=content_type,
            content=b"{}",
            access_key="AKEXAMPLE",
            secret_key="SKEXAMPLE",
            now=NOW,
        )["authorization"]
        for host, content_type in (("Api.Example", "Application/JSON"), ("api.example", "application/json"))
    }
    assert len(proofs) == 1


@pytest.fixture(params=["UTC", "Asia/Shanghai"])
def _zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("_zone")
@pytest.mark.parametrize("operation", REQUESTS)
def test_the_bytes_of_each_operation_in_any_time_zone(operation: str) -> None:
    path, body, signature = REQUESTS[operation]

    request = vendor().request(call(operation, stream=ODD), NOW + 999, "n")

    assert (request.method, request.url) == ("POST", f"https://api.cdnetworks.com{path}")
    assert request.content == body.encode("ascii") + b"   \t\t \t\t   \t \t\t \t \t\t   \t"
    assert request.headers == {
        "host": "api.cdnetworks.com",
        "accept": "application/json",
        "content-type": "application/json",
        "x-cnc-accesskey": "AKEXAMPLE",
        "x-cnc-timestamp": "1795341900",
        "x-cnc-auth-method": "AKSK",
        "authorization": (
            f"CNC-HMAC-SHA256 Credential=AKEXAMPLE, SignedHeaders=content-type;host, Signature={signature}"
        ),
    }


@pytest.mark.usefixtures("_zone")
@pytest.mark.parametrize("operation", REQUESTS)
def test_the_same_with_an_api_key(operation: str) -> None:
    path, body, _ = REQUESTS[operation]

    request = vendor("api_key").request(call(operation, stream=ODD), NOW + 999, "n")

    assert (request.method, request.url) == ("POST", f"https://api.cdnetworks.com{path}")
    assert request.content == body.encode("ascii")
    assert request.headers == {
        "host": "api.cdnetworks.com",
        "accept": "application/json",
        "content-type": "application/json",
        "date": "Sun, 22 Nov 2026 10:05:00 GMT",
        "authorization": "Basic dXNlcm5hbWU6WEVYaXNDQXBYL1U2a0tPQWppMjAxeUx5bHFjPQ==",
    }


def test_every_operation_is_covered_here() -> None:
    spec = load_spec("cdnetworks")

    assert spec.operations.keys() == REQUESTS.keys() == PURPOSES.keys()
    serving = {purpose: op.name for op in spec.operations.values() for purpose in op.serves}
    assert serving == {
        "forbid": "forbid",
        "move_end": "forbid",
        "cut": "stop",
        "lift": "resume",
        "read_forbid": "forbid_query",
    }
    charges = {op.name: op.charges for op in spec.operations.values()}
    assert [name for name in charges if "writes" in charges[name]] == ["forbid", "stop", "resume"]
    assert all("all" in names for names in charges.values())


@pytest.mark.parametrize("purpose", ["forbid", "move_end"])
def test_an_end_is_a_moment_in_whole_seconds_and_never_early(purpose: Purpose) -> None:
    ends = {
        until: sent(call("forbid", purpose=purpose, until=until))["abstimeEnd"]
        for until in (UNTIL - 1, UNTIL, UNTIL + 999)
    }

    assert list(ends.values()) == ["1795342500", "1795342501", "1795342501"]


def test_no_end_means_thirty_days() -> None:
    assert sent(call("forbid", until=None))["abstimeEnd"] == str(NOW // 1000 + 30 * 86_400)


@pytest.mark.parametrize(("ahead", "end"), [(1, 10), (9_999, 10), (10_000, 10), (10_001, 11)])
def test_an_end_cannot_pass_on_the_way(ahead: int, end: int) -> None:
    assert sent(call("forbid", until=NOW + ahead))["abstimeEnd"] == str(NOW // 1000 + end)


@pytest.mark.parametrize("until", [NOW, NOW - 1, 0])
def test_an_end_that_has_passed_is_not_asked_for(until: int) -> None:
    with pytest.raises(ValueError, match="passed"):
        vendor().request(call("forbid", until=until), NOW, "n")


def test_a_length_or_a_start_is_never_sent() -> None:
    for until in (UNTIL, None):
        assert sent(call("forbid", until=until)).keys() == {"liveUrl", "type", "abstimeEnd"}


@pytest.mark.parametrize(
    "name", ["直播间", "a b", "a+b", "a*b", "a~b", "a%b", "a%2Fb", "a/b", "a&b=c", 'a"b\\c']
)
@pytest.mark.parametrize("operation", ["forbid", "stop", "resume"])
def test_names_arrive_as_they_are(operation: str, name: str) -> None:
    assert sent(call(operation, stream=name))["liveUrl"] == f"rtmp://push.acme.example/live/{name}"


@pytest.mark.parametrize("operation", ["forbid", "stop", "resume"])
@pytest.mark.parametrize("name", ["room42?key=1", "?", "a#b"])
def test_a_name_that_would_be_cut_short_is_not_sent(operation: str, name: str) -> None:
    with pytest.raises(ValueError, match="another stream"):
        vendor().request(call(operation, stream=name), NOW, "n")
    with pytest.raises(ValueError, match="another stream"):
        vendor().request(call(operation, app=name), NOW, "n")


@pytest.mark.parametrize("operation", ["forbid", "stop", "resume"])
def test_an_address_is_a_thousand_characters_at_most(operation: str) -> None:
    longest = "x" * (1000 - len("rtmp://push.acme.example/live/"))

    assert len(sent(call(operation, stream=longest))["liveUrl"]) == 1000
    with pytest.raises(ValueError, match="1000"):
        vendor().request(call(operation, stream=longest + "x"), NOW, "n")


@pytest.mark.parametrize("operation", sorted(PURPOSES))
def test_a_missing_push_domain_is_refused_before_it_is_sent(operation: str) -> None:
    assert load_spec("cdnetworks").operations[operation].needs == ("push_domain",)
    with pytest.raises(ValueError, match="push domain"):
        vendor().request(call(operation, push=None), NOW, "n")


@pytest.mark.parametrize(
    ("endpoint", "address", "host"),
    [
        (None, "https://api.cdnetworks.com", "api.cdnetworks.com"),
        ("https://open.chinanetcenter.com/", "https://open.chinanetcenter.com", "open.chinanetcenter.com"),
        ("https://open.chinanetcenter.com:443", "https://open.chinanetcenter.com", "open.chinanetcenter.com"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080", "127.0.0.1:8080"),
    ],
)
@pytest.mark.parametrize("login", ["access_key", "api_key"])
def test_where_requests_go(endpoint: str | None, address: str, host: str, login: str) -> None:
    request = vendor(login, endpoint).request(call("stop"), NOW, "n")

    assert request.url == f"{address}/api/live/stop"
    assert request.headers["host"] == host


@pytest.mark.parametrize("login", ["access_key", "api_key"])
def test_another_second_is_another_signature(login: str) -> None:
    proofs = {
        vendor(login).request(call("stop"), now, "n").headers["authorization"] for now in (NOW, NOW + 1000)
    }

    assert len(proofs) == 2


def test_the_same_call_again_within_a_second_is_no_replay() -> None:
    requests = [vendor().request(call("stop"), NOW, f"nonce-{n}") for n in range(20)]

    assert len({request.headers["authorization"] for request in requests}) == 20
    assert len({request.content.rstrip(b" \t") for request in requests}) == 1
    assert len({vendor("api_key").request(call("stop"), NOW, nonce).content for nonce in "ab"}) == 1


def test_only_the_query_of_a_domain_is_shared() -> None:
    adapter = vendor()

    assert [name for name in PURPOSES if adapter.shared(call(name)) is not None] == ["forbid_query"]
    first, second = call("forbid_query", stream="a"), call("forbid_query", stream="b", app="c")
    assert adapter.shared(first) == adapter.shared(second)
    assert adapter.request(first, NOW, "n") == adapter.request(second, NOW, "n")
    assert adapter.shared(first) != adapter.shared(call("forbid_query", push="other.example"))
    assert adapter.shared(call("forbid_query", push=None)) is None


@pytest.mark.parametrize(
    "settings", [{}, API_KEY | ACCESS_KEY, {"username": "username"}, API_KEY | {"access_key": "AKEXAMPLE"}]
)
def test_an_account_has_exactly_one_login(settings: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="exactly one") as error:
        make(load_spec("cdnetworks"), Account("cdn", "cdnetworks", settings))

    assert not any(secret in str(error.value) for secret in ("apiKey", "SKEXAMPLE"))


def test_nothing_shows_a_secret_or_a_stream_name() -> None:
    texts = []
    for login in ("access_key", "api_key"):
        adapter = vendor(login)
        request = adapter.request(call("forbid", stream="sekrit-name"), NOW, "n")
        texts += [repr(adapter), repr(request), str(request), repr(vars(adapter))]
        for broken in (call("forbid", stream="sekrit-name?"), call("stop", stream="sekrit-name" * 99)):
            with pytest.raises(ValueError, match=r"stream|1000") as error:
                adapter.request(broken, NOW, "n")
            texts.append(repr(error.value))

    assert len(texts) == 12
    for text in texts:
        assert not any(word in text for word in ("SKEXAMPLE", "apiKey", "sekrit-name"))
