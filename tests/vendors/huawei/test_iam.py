"""The token of IAM: how it is asked for, what an answer gives, and what calls carry then."""

import json
from typing import Any

import pytest

from tests.vendors.huawei.test_requests import NOW, call
from worker.core.outcome import Outcome, Refused, Unreachable
from worker.vendors import load_spec, make
from worker.vendors.base import Account, LoggedIn, LogsIn, Response
from worker.vendors.huawei import Huawei

HOUR, DAY = 3_600_000, 86_400_000
PASSWORD, TOKEN = "Pa55-visible", "MIIvisible0"
SETTINGS = {
    "region": "cn-north-4",
    "project_id": "0a1b",
    "iam.user": "bot",
    "iam.password": PASSWORD,
    "iam.domain": "acme",
}


def huawei(**more: str) -> Huawei:
    vendor = make(load_spec("huawei"), Account("hw", "huawei", SETTINGS | more))
    assert isinstance(vendor, Huawei)
    assert isinstance(vendor, LogsIn)
    return vendor


def given(status: int = 201, body: Any = None, **headers: str) -> Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Response(status, {"x-subject-token": TOKEN, **headers}, content)


def expiring(text: object) -> dict[str, object]:
    return {"token": {"expires_at": text, "issued_at": "2026-11-22T10:15:00.000000Z"}}


def logged_in(answer: Response) -> LoggedIn:
    found = huawei().logged_in(answer, NOW)
    assert isinstance(found, LoggedIn)
    return found


def test_the_request_is_the_one_of_the_vendors_page() -> None:
    request = huawei().login(NOW)
    assert request is not None
    assert (request.method, request.url) == (
        "POST",
        "https://iam.cn-north-4.myhuaweicloud.com/v3/auth/tokens",
    )
    assert request.headers == {
        "content-type": "application/json",
        "host": "iam.cn-north-4.myhuaweicloud.com",
    }
    assert json.loads(request.content) == {
        "auth": {
            "identity": {
                "methods": ["password"],
                "password": {"user": {"name": "bot", "password": PASSWORD, "domain": {"name": "acme"}}},
            },
            "scope": {"project": {"id": "0a1b"}},
        }
    }
    assert PASSWORD not in repr(request)


def test_iam_may_be_elsewhere() -> None:
    request = huawei(**{"iam.endpoint": "https://proxy.acme.example:8443"}).login(NOW)
    assert request is not None
    assert request.url == "https://proxy.acme.example:8443/v3/auth/tokens"


def test_an_account_with_keys_needs_no_login() -> None:
    keys = {"region": "r", "project_id": "p", "access_key": "a", "secret_key": "s"}
    vendor = make(load_spec("huawei"), Account("hw", "huawei", keys))
    assert isinstance(vendor, LogsIn)
    assert vendor.login(NOW) is None


@pytest.mark.parametrize(
    ("body", "until", "renew_at"),
    [
        (expiring("2026-11-23T10:15:00.000000Z"), NOW + DAY, NOW + 23 * HOUR),
        (expiring("2026-11-22T11:15:00.000000Z"), NOW + HOUR, NOW + HOUR // 2),
        (expiring("2026-12-24T10:15:00.000000Z"), NOW + DAY, NOW + 23 * HOUR),
        (expiring("soon"), NOW + DAY, NOW + 23 * HOUR),
        (expiring(7), NOW + DAY, NOW + 23 * HOUR),
        ({"token": []}, NOW + DAY, NOW + 23 * HOUR),
        (b"", NOW + DAY, NOW + 23 * HOUR),
    ],
)
def test_a_token_has_an_end_and_is_renewed_before(body: object, until: int, renew_at: int) -> None:
    found = logged_in(given(body=body))
    assert (found.until, found.renew_at) == (until, renew_at)
    assert TOKEN not in repr(found)


@pytest.mark.parametrize("operation", list(load_spec("huawei").operations))
def test_every_call_carries_the_token_and_no_signature(operation: str) -> None:
    request = logged_in(given(body=b"")).vendor.request(call(operation, until=NOW + HOUR), NOW, "nonce")
    assert request.headers == {
        "content-type": "application/json",
        "host": "live.cn-north-4.myhuaweicloud.com",
        "x-auth-token": TOKEN,
    }
    assert "/v1/0a1b/" in request.url
    assert TOKEN not in repr(request)


def test_without_a_token_nothing_is_sent() -> None:
    with pytest.raises(ValueError, match="has to log in first"):
        huawei().request(call("unblock"), NOW, "nonce")


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_a_refused_user_is_a_refused_login(status: int) -> None:
    error = {"error": {"code": status, "message": f"about {PASSWORD}", "title": "Unauthorized"}}
    outcome = huawei().logged_in(given(status, error, **{"x-request-id": "r-1"}), NOW)
    assert isinstance(outcome, Refused)
    assert outcome.error == "auth"
    assert (outcome.wire.vendor_code, outcome.wire.vendor_request_id) == (str(status), "r-1")
    assert PASSWORD not in repr(outcome)
    other = huawei().logged_in(given(status, {"error_code": "IAM.0011", "error_msg": PASSWORD}), NOW)
    assert isinstance(other, Refused)
    assert other.wire.vendor_code == "IAM.0011"


@pytest.mark.parametrize(
    "answer",
    [
        given(429),
        given(500, b"<html>"),
        given(503),
        given(302, b"", location="/"),
        given(200, {}),
        given(204, b""),
        Response(201, {}, b"{}"),
        Response(201, {"x-subject-token": ""}, b"{}"),
        Response(201, {"x-subject-token": "é\n"}, b"{}"),
    ],
)
def test_what_is_no_token_may_be_one_the_next_time(answer: Response) -> None:
    assert isinstance(huawei().logged_in(answer, NOW), Unreachable)


def after(age: int, code: str, status: int = 401) -> tuple[bool, Outcome]:
    """Return whether a token of this age is given up for an answer, and what that means for the call."""
    vendor = logged_in(given(body=b"")).vendor
    assert isinstance(vendor, Huawei)
    answer = Response(status, {}, json.dumps({"error_code": code, "error_msg": "token expired"}).encode())
    return vendor.logged_out(answer), vendor.read(call("block"), answer, NOW + age)


@pytest.mark.parametrize("code", ["APIGW.0307", "APIG.0307", "APIGW.0301"])
def test_a_token_that_is_no_longer_taken_is_replaced_and_the_call_made_again(code: str) -> None:
    lost, outcome = after(2 * HOUR, code)
    assert lost
    assert isinstance(outcome, Unreachable)


@pytest.mark.parametrize("code", ["APIGW.0307", "APIGW.0301"])
def test_a_fresh_token_that_is_not_taken_is_a_refused_login(code: str) -> None:
    """It belongs to another region or project: one more of its kind would not help."""
    lost, outcome = after(1_000, code)
    assert lost
    assert isinstance(outcome, Refused)
    assert outcome.error == "auth"


@pytest.mark.parametrize(
    ("status", "code"), [(403, "APIGW.0302"), (401, "LIVE.100011003"), (429, "APIGW.0308"), (401, "")]
)
def test_other_refusals_say_nothing_of_the_token(status: int, code: str) -> None:
    lost, outcome = after(2 * HOUR, code, status)
    assert not lost
    assert not isinstance(outcome, Unreachable)


def test_no_repr_shows_password_or_token() -> None:
    vendor = huawei()
    for thing in (vendor, vendor._user, logged_in(given(body=b"")).vendor):
        assert PASSWORD not in repr(thing)
        assert TOKEN not in repr(thing)
