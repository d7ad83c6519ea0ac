"""What is asked, byte for byte."""

from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vendors.nginx_rtmp.given import NOW, SETTINGS, call, vendor
from worker.vendors import load_spec, make
from worker.vendors.base import Account


def test_a_cut() -> None:
    request = vendor().request(call("drop"), NOW, "nonce")
    url = "http://127.0.0.1:8080/control/drop/publisher?srv=0&app=live&name=room42"
    assert (request.method, request.url, request.content) == ("GET", url, b"")


def test_a_look_at_the_streams() -> None:
    request = vendor().request(call("stat"), NOW, "nonce")
    assert (request.method, request.url) == ("GET", "http://127.0.0.1:8080/stat")


@pytest.mark.parametrize("operation", ["drop", "stat"])
def test_no_connection_is_kept_for_it_would_lead_to_the_same_process(operation: str) -> None:
    assert vendor().request(call(operation), NOW, "nonce").headers == {"connection": "close"}


def test_another_server_block_is_named() -> None:
    assert "?srv=3&" in vendor(server="3").request(call("drop"), NOW, "nonce").url


def test_an_endpoint_takes_the_place_of_scheme_and_host() -> None:
    behind = vendor("https://proxy.example:8443")
    assert behind.request(call("stat"), NOW, "nonce").url == "https://proxy.example:8443/stat"
    assert behind.request(call("drop"), NOW, "nonce").url.startswith(
        "https://proxy.example:8443/control/drop/"
    )


# Without a name nginx drops every stream, without an application those of all applications


ODD = ["", " ", "a b", "a&b", "a&name=b", "&", "#", "a#b", "a?b", "?", "a\tb", "a\r\nb", "a\0b", "\x7f", "é"]


@pytest.mark.parametrize("whose", ["app", "stream"])
@pytest.mark.parametrize("name", [*ODD, "直播间", "a\ud800", "a" * 256])
def test_a_name_that_nginx_would_read_as_another_one_is_refused(whose: str, name: str) -> None:
    with pytest.raises(ValueError, match="name") as refused:
        vendor().request(call("drop", **{whose: name}), NOW, "nonce")
    assert len(name) < 3 or name not in str(refused.value)


PLAIN = ["a%20b", "%", "a+b", "a=b", "a/b", "a;b", "name=", "*", "~", '"<>"', "a" * 255]


@pytest.mark.parametrize("name", PLAIN)
def test_a_name_that_passes_unchanged_is_sent_as_it_is(name: str) -> None:
    """Nginx compares it with the stream's name without decoding it."""
    assert vendor().request(call("drop", stream=name), NOW, "nonce").url.endswith(f"&name={name}")


@given(st.text(max_size=300), st.text(max_size=300))
def test_no_cut_goes_out_that_names_anything_else(app: str, stream: str) -> None:
    try:
        url = vendor().request(call("drop", app=app, stream=stream), NOW, "nonce").url
    except ValueError:
        return
    query = as_nginx_reads_it(url)
    assert query == {"srv": "0", "app": app, "name": stream}
    assert app
    assert stream


def as_nginx_reads_it(url: str) -> dict[str, str]:
    """The arguments as ``ngx_http_arg`` finds them: the first of each name, cut at ``&``, not decoded."""
    found: dict[str, str] = {}
    for part in url.partition("#")[0].partition("?")[2].split("&"):
        name, _, value = part.partition("=")
        found.setdefault(name, value)
    return found


def test_what_nginx_reads_is_not_what_a_decoder_would() -> None:
    url = vendor().request(call("drop", stream="a%26b"), NOW, "nonce").url
    assert as_nginx_reads_it(url)["name"] == "a%26b"
    assert dict(parse_qsl(urlsplit(url).query))["name"] == "a&b"


# Settings


NO_PAGES = ["/control", "ftp://a/control", "http://", "http://a b/", "http://a/c?x=1", "http://a/c#d"]


@pytest.mark.parametrize("setting", ["control_url", "stat_url"])
@pytest.mark.parametrize("url", [*NO_PAGES, "http://u@a/c", "http://a:port/", "http://a/é"])
def test_an_address_that_is_none_is_a_mistake(setting: str, url: str) -> None:
    with pytest.raises(ValueError, match=f"^{setting}: expected http"):
        vendor(**{setting: url})


@pytest.mark.parametrize("value", ["-1", "x", "1.0", "²", "1000"])
@pytest.mark.parametrize("setting", ["workers", "server"])
def test_a_number_that_is_none_is_a_mistake(setting: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"^{setting}: expected a number"):
        vendor(**{setting: value})


def test_both_addresses_are_required() -> None:
    with pytest.raises(ValueError, match=r"^stat_url: expected a value"):
        make(load_spec("nginx_rtmp"), Account("edge", "nginx_rtmp", {"control_url": SETTINGS["control_url"]}))


def test_one_look_serves_every_stream_of_the_server() -> None:
    asked = vendor()
    names = {asked.shared(call("stat", app=app, stream=name)) for app in ("a", "b") for name in ("x", "y")}
    assert names == {"stat"}
    assert asked.shared(call("drop")) is None
