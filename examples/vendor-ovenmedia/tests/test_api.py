"""The adapter: what is sent, and what each answer means."""

import json
from base64 import b64encode

import pytest

from worker.core.outcome import Facts, Observed, Outcome, Refused, word
from worker.vendors import load_spec, make
from worker.vendors.base import Account, Response, Vendor
from worker.words import Call, Purpose, Target

NOW = 1_795_341_900_000
PURPOSES: dict[str, Purpose] = {"delete_stream": "cut", "get_stream": "read_live"}


def adapter(**settings: str) -> Vendor:
    given = {"access_token": "example-token", **settings}
    return make(load_spec("ovenmedia"), Account("ome", "ovenmedia", given, "http://media.example:8081"))


def call(operation: str, app: str = "live", stream: str = "room 42") -> Call:
    return Call("c", PURPOSES[operation], operation, Target("ome", app, stream, None, None))


def read(operation: str, status: int, body: object) -> Outcome:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return adapter().read(call(operation), Response(status, {}, content), NOW)


@pytest.mark.parametrize(("operation", "method"), [("delete_stream", "DELETE"), ("get_stream", "GET")])
def test_a_request_names_one_stream(operation: str, method: str) -> None:
    request = adapter().request(call(operation), NOW, "n")
    assert (request.method, request.url) == (
        method,
        "http://media.example:8081/v1/vhosts/default/apps/live/streams/room%2042",
    )
    login = b64encode(b"example-token").decode()
    assert request.headers["authorization"] == f"Basic {login}"
    assert request.content == b""


def test_the_virtual_host_is_the_accounts() -> None:
    assert "/v1/vhosts/tv/apps/" in adapter(vhost="tv").request(call("get_stream"), NOW, "n").url


@pytest.mark.parametrize(("app", "stream"), [("", "s"), ("live", ""), ("live", ".."), (".", "s")])
def test_a_path_that_would_name_more_is_not_sent(app: str, stream: str) -> None:
    with pytest.raises(ValueError, match="one stream"):
        adapter().request(call("delete_stream", app, stream), NOW, "n")


@pytest.mark.parametrize(
    ("status", "body", "meaning"),
    [
        (200, {"statusCode": 200, "message": "OK"}, "done"),
        (404, {"statusCode": 404, "message": "Not found"}, "absent"),
        (404, b"<html>", "refused not_found"),
        (401, {"statusCode": 401, "message": "Unauthorized"}, "refused auth"),
        (500, b"", "unknown"),
        (200, b"", "unknown"),
        (200, {"statusCode": 500}, "unknown"),
    ],
)
def test_what_an_answer_to_a_cut_means(status: int, body: object, meaning: str) -> None:
    found = read("delete_stream", status, body)
    assert (f"refused {found.error}" if isinstance(found, Refused) else word(found)) == meaning


@pytest.mark.parametrize(
    ("status", "more", "facts"),
    [
        (
            200,
            {"response": {"input": {"createdTime": "2026-11-22T12:05:00.000+02:00"}}},
            Facts(live=True, live_since=NOW),
        ),
        (200, {}, Facts(live=True)),
        (200, {"response": []}, Facts(live=True)),
        (404, {}, Facts(live=False)),
    ],
)
def test_whether_a_stream_is_live(status: int, more: dict[str, object], facts: Facts) -> None:
    found = read("get_stream", status, {"statusCode": status, **more})
    assert isinstance(found, Observed)
    assert found.facts == facts
