"""What the publish gate answers, over real sockets."""

import http.client
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlencode

import pytest
from prometheus_client import CollectorRegistry

from tests.core.test_bans import ROOM, bans, state
from worker.core.bans import Bans
from worker.gate import Gate, fields
from worker.runtime.metrics import GateMetrics
from worker.runtime.ops import LONGEST_FORM, Ops
from worker.settings_ports import GateSettings, OpsSettings
from worker.words import Millis

NOW: Millis = 1_790_000_000_000
ASKED = {
    "app": "live",
    "flashver": "FMLE/3.0",
    "swfurl": "",
    "tcurl": "rtmp://127.0.0.1/live",
    "pageurl": "",
    "addr": "127.0.0.1",
    "clientid": "7",
    "call": "publish",
    "name": "room42",
    "type": "live",
}
"""What nginx-rtmp sends, in its order."""


class Rig:
    """A gate behind its port. ``bans`` None: it knows nothing."""

    def __init__(self, fail: str = "closed") -> None:
        self.bans: Bans | None = bans()
        self.now = NOW
        self.registry = CollectorRegistry()
        settings = GateSettings(fail="open" if fail == "open" else "closed")
        metrics = GateMetrics(self.registry, ["edge", "other"])
        gate = Gate(settings, ["edge", "other"], lambda: self.bans, metrics, lambda: self.now)
        self.server = Ops(
            OpsSettings("127.0.0.1", 0),
            self.registry,
            not_ready=lambda: [] if self.bans is not None else ["it knows nothing"],
            not_healthy=list,
            hook=gate.answer,
        )

    def ask(self, path: str = "/edge", method: str = "POST", **changes: str) -> int:
        return self.post(urlencode(ASKED | changes).encode(), path, method)

    def post(self, form: bytes, path: str = "/edge", method: str = "POST") -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=5)
        try:
            if method == "GET":
                connection.request("GET", f"{path}?{form.decode()}")
            else:
                connection.request(method, path, body=form)
            return connection.getresponse().status
        finally:
            connection.close()

    def raw(self, request: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=5) as connection:
            connection.sendall(request)
            return connection.recv(1000)

    def counted(self, account: str, decision: str) -> float | None:
        labels = {"account": account, "decision": decision}
        return self.registry.get_sample_value("moderation_gate_answers_total", labels)


@contextmanager
def rig(fail: str = "closed") -> Iterator[Rig]:
    made = Rig(fail)
    with made.server:
        yield made


def test_what_is_forbidden_is_refused_and_everything_else_let_in() -> None:
    with rig() as made:
        made.bans = bans((0, b"k", state()))
        assert made.ask() == 403
        assert made.ask(name="room43") == 200
        assert made.ask(app="vod") == 200
        assert made.ask("/other") == 200
        assert (made.counted("edge", "refused"), made.counted("edge", "allowed")) == (1, 2)


def test_a_ban_ends_by_the_clock() -> None:
    with rig() as made:
        made.bans = bans((0, b"k", state(NOW + 1)))
        assert made.ask() == 403
        made.now += 1
        assert made.ask() == 200


@pytest.mark.parametrize("call", ["publish", "play", "update_publish"])
def test_whatever_is_asked_of_a_forbidden_stream_is_refused(call: str) -> None:
    with rig() as made:
        made.bans = bans((0, b"k", state()))
        assert made.ask(call=call) == 403


def test_while_nothing_is_known_it_answers_as_configured() -> None:
    for fail, status in (("closed", 503), ("open", 200)):
        with rig(fail) as made:
            made.bans = None
            assert made.ask() == status
            assert made.counted("edge", f"failed_{fail}") == 1


def test_what_runs_is_not_ended_for_not_knowing() -> None:
    with rig() as made:
        made.bans = None
        assert made.ask(call="update_publish") == 200


def test_an_account_that_is_none_is_refused_and_named_once(caplog: pytest.LogCaptureFixture) -> None:
    with rig("open") as made:
        for path in ("/hw", "/hw", "/", "/edge/", "/room42?secret"):
            assert made.ask(path) == 403
        assert made.counted("none", "unknown_account") == 5
    said = [vars(record)["asked"] for record in caplog.records if "does not serve" in record.message]
    assert said == ["hw", "another path", "room42"]


def test_a_publishers_own_arguments_do_not_rename_it() -> None:
    """nginx appends them to its own: ``rtmp://…/room42?name=room43&app=vod``."""
    with rig() as made:
        made.bans = bans((0, b"k", state()))
        assert made.post(urlencode(ASKED).encode() + b"&name=room43&app=vod") == 403


def test_a_question_by_get_is_the_same() -> None:
    """As with ``notify_method get``."""
    with rig() as made:
        made.bans = bans((0, b"k", state()))
        assert made.ask(method="GET") == 403
        assert made.ask(method="GET", name="x") == 200


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("a%20b", "a b"),
        ("a+b", "a+b"),
        ("a%2Bb", "a+b"),
        ("a%26b%3Dc", "a&b=c"),
        ("%E7%9B%B4", "直"),
        ("a=b", "a=b"),
        ("%ff", "\udcff"),
        ("%zz", "%zz"),
        ("", ""),
    ],
)
def test_a_name_is_read_as_nginx_writes_it(written: str, name: str) -> None:
    assert fields(f"app=live&name={written}&type=live".encode())["name"] == name


def test_odd_forms_are_answered() -> None:
    with rig() as made:
        for form in (b"", b"&&&", b"name", b"=x", b"\xff\xfe", b"name=%", b"app=live" * 1000):
            assert made.post(form) == 200


def test_requests_are_bounded() -> None:
    with rig() as made:
        assert made.post(b"x" * (LONGEST_FORM + 1)) == 413
        assert b" 411 " in made.raw(b"POST /edge HTTP/1.0\r\n\r\n")
        assert b" 411 " in made.raw(b"POST /edge HTTP/1.0\r\nContent-Length: -1\r\n\r\n")


def test_the_pages_for_operators_are_there_too() -> None:
    with rig() as made:
        for page, status in (("/healthz", 200), ("/readyz", 200), ("/metrics", 200)):
            assert made.post(b"", page, "GET") == status
            assert made.post(b"", page, "POST") == 405
        made.bans = None
        assert made.post(b"", "/readyz", "GET") == 503


def test_a_failure_lets_nobody_in_and_shows_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with rig("open") as made:
        made.bans = Broken([])
        assert made.ask() == 500
    assert "room42" not in caplog.text
    assert [record.message for record in caplog.records] == ["a hook failed"]


class Broken(Bans):
    """Bans that cannot be looked up."""

    def forbidden(self, door: tuple[str, str, str], now: Millis) -> bool:
        raise ValueError(f"{door} at {now}")


def test_no_answer_and_no_log_line_holds_a_streams_name(caplog: pytest.LogCaptureFixture) -> None:
    with rig() as made, caplog.at_level("DEBUG"):
        made.bans = bans((0, b"k", state()))
        form = urlencode(ASKED).encode()
        head = f"POST /edge HTTP/1.0\r\nContent-Length: {len(form)}\r\n\r\n".encode()
        answer = made.raw(head + form)
        assert b" 403 " in answer
        assert ROOM[2].encode() not in answer
    assert ROOM[2] not in caplog.text
