"""What answers mean."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vendors.nginx_rtmp.given import NOW, answer, call, client, page, stream, vendor
from worker.core.outcome import Done, Facts, NextPage, NotThere, Observed, Outcome, Unknown, Wire
from worker.vendors.nginx_rtmp.api import PAGES_PER_WORKER

NOT_LIVE = Facts(live=False)


def look(body: str | bytes, *, name: str = "room42", cursor: str | None = None, **settings: str) -> Outcome:
    return vendor(**settings).read(call("stat", stream=name, cursor=cursor), answer(body), NOW)


def facts(body: str, *, name: str = "room42", **settings: str) -> Facts:
    outcome = look(body, name=name, **settings)
    assert isinstance(outcome, Observed)
    return outcome.facts


# A cut


@pytest.mark.parametrize("body", ["1", "2", "1\n", " 1"])
def test_a_number_of_dropped_publishers_is_a_success(body: str) -> None:
    assert vendor().read(call("drop"), answer(body), NOW) == Done(Wire(200))


@pytest.mark.parametrize("body", ["0", "00", "0\n"])
def test_none_dropped_is_neither_a_success_nor_sure(body: str) -> None:
    outcome = vendor().read(call("drop"), answer(body), NOW)
    assert isinstance(outcome, NotThere)
    assert not outcome.sure


@pytest.mark.parametrize("body", ["", "ok", "-1", "1.0", "1 0", "²", "9" * 10, "<html>1</html>"])
def test_anything_else_may_have_dropped_it(body: str) -> None:
    assert isinstance(vendor().read(call("drop"), answer(body), NOW), Unknown)


# A look


def test_a_published_stream_is_live_since_its_publisher_connected() -> None:
    """Not since the stream has been known: a player may have waited for it."""
    shown = stream("room42", client("85000"), client("8000", publishing=True))
    assert facts(page(shown)) == Facts(live=True, live_since=NOW - 8000)


@pytest.mark.parametrize("clients", [(), (client("85000"),), (client("soon", publishing=True),)])
def test_without_the_publishers_own_time_the_beginning_is_not_known(clients: tuple[str, ...]) -> None:
    """As with ``rtmp_stat live``, which shows no clients."""
    assert facts(page(stream("room42", *clients))) == Facts(live=True)


@pytest.mark.parametrize(
    "body",
    [
        page(),
        page(stream("room42", client("85000"), published=False)),
        page(stream("room4"), stream("room422"), stream("ROOM42"), stream(" room42")),
        page(stream(), app="other"),
    ],
    ids=["none", "players only", "others", "another application"],
)
def test_what_is_not_published_is_not_live(body: str) -> None:
    assert facts(body) == NOT_LIVE


def test_the_server_that_is_meant_is_looked_at() -> None:
    other = "<server><application><name>live</name><live></live></application></server>"
    assert facts(page(stream(), before=other), server="1") == Facts(live=True)
    assert facts(page(stream(), before=other), server="0") == NOT_LIVE
    assert isinstance(look(page(stream()), server="1"), Unknown)


@pytest.mark.parametrize("name", ['a"b', "a<b>c", "a%b", "a/b", "a+b"])
def test_odd_names_are_found(name: str) -> None:
    written = name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
    assert facts(page(stream(written)), name=name) == Facts(live=True)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "<rtmp/>",
        "<rtmp></rtmp>",
        "<html><body><server/></body></html>",
        page(stream())[:-10],
        "<rtmp><server>" + "<a>" * 50_000,
        '<!DOCTYPE rtmp SYSTEM "http://127.0.0.1/x"><rtmp><server/></rtmp>',
        '<!DOCTYPE rtmp [<!ENTITY a "b">]><rtmp><server/></rtmp>',
        '<?xml version="1.0" encoding="no-such" ?><rtmp><server/></rtmp>',
        "<rtmp><server>&a;</server></rtmp>",
        b"\xff\xfe" + "<rtmp><server/></rtmp>".encode("utf-16-le")[:-1],
    ],
)
def test_what_is_no_stat_page_says_nothing(body: str | bytes) -> None:
    assert isinstance(look(body), Unknown)


def test_entities_are_not_expanded() -> None:
    """Not even those that a document type in another charset declares."""
    bomb = '<!DOCTYPE rtmp [<!ENTITY a "xxxxxxxx">'
    for outer, inner in zip("bcdefgh", "abcdefg", strict=True):
        bomb += f'<!ENTITY {outer} "{f"&{inner};" * 10}">'
    bomb += "]><rtmp><server><application><name>&h;</name></application></server></rtmp>"
    assert isinstance(look(bomb), Unknown)
    assert isinstance(look(bomb.encode("utf-16")), Unknown)


@given(st.binary(max_size=300))
def test_any_bytes_mean_something(body: bytes) -> None:
    assert isinstance(look(body), Unknown)
    assert isinstance(vendor().read(call("drop"), answer(body), NOW), Unknown | Done | NotThere)


# Several processes, each with a page of its own


def test_a_stream_on_any_page_is_live() -> None:
    assert look(page(stream(), pid=8), cursor="1 7", workers="2") == Observed(Facts(live=True), Wire(200))


def test_a_stream_on_no_page_is_asked_for_until_every_process_has_answered() -> None:
    cursor = None
    for number, pid in enumerate((7, 7, 8, 7, 8), 1):
        outcome = look(page(pid=pid), cursor=cursor, workers="3")
        assert isinstance(outcome, NextPage)
        assert outcome.cursor.split(" ")[0] == str(number)
        cursor = outcome.cursor
    assert look(page(pid=9), cursor=cursor, workers="3") == Observed(NOT_LIVE, Wire(200))


def test_if_some_process_never_answers_nothing_is_known() -> None:
    cursor: str | None = None
    for _ in range(2 * PAGES_PER_WORKER):
        outcome = look(page(), cursor=cursor, workers="2")
        assert isinstance(outcome, NextPage)
        cursor = outcome.cursor
    outcome = look(page(), cursor=cursor, workers="2")
    assert isinstance(outcome, Observed)
    assert outcome.facts == Facts()
    assert outcome.detail == "1 of 2 processes answered"


def test_its_one_process_has_the_last_word() -> None:
    assert look(page()) == Observed(NOT_LIVE, Wire(200))
