"""Routes -> targets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.routes import Route, Routes, TargetTemplate
from worker.words import Target

NAME = TargetTemplate("hw", "live", "{stream.name}", push_domain="push.example", play_domain="play.example")


def stream_of(stream: str, key: str) -> str | None:
    targets = Routes([Route((TargetTemplate("hw", "live", stream),))]).resolve(key, None)
    return targets[0].stream if targets else None


@pytest.mark.parametrize(
    ("route", "key", "tenant", "applies"),
    [
        (Route((NAME,)), "a/b", None, True),
        (Route((NAME,), key=("a/*",)), "a/b", None, True),
        (Route((NAME,), key=("x", "a/?")), "a/b", None, True),
        (Route((NAME,), key=("A/*",)), "a/b", None, False),
        (Route((NAME,), tenant="acme"), "a/b", "acme", True),
        (Route((NAME,), tenant="acme"), "a/b", None, False),
        (Route((NAME,), tenant="ac*"), "a/b", "acme", False),
        (Route((NAME,), key=("a/*",), tenant="acme"), "b/b", "acme", False),
    ],
)
def test_a_route_applies_by_glob_on_key_and_equality_on_tenant(
    route: Route, key: str, tenant: str | None, applies: bool
) -> None:
    assert bool(Routes([route]).resolve(key, tenant)) is applies


def test_the_first_route_that_matches_decides_alone() -> None:
    other = TargetTemplate("ali", "live", "{stream.name}")
    routes = [Route((NAME,), key=("x/*",)), Route((NAME, other), key=("a/*",)), Route((other,))]

    targets = Routes(routes).resolve("a/b", None)

    assert targets == (
        Target("hw", "live", "b", push_domain="push.example", play_domain="play.example"),
        Target("ali", "live", "b"),
    )


def test_without_a_route_there_is_no_target() -> None:
    assert Routes([]).resolve("a/b", "acme") == ()


@pytest.mark.parametrize(
    ("template", "key", "stream"),
    [
        ("{stream.name}", "acme/eu/room42", "room42"),
        ("{stream.name}", "room42", "room42"),
        ("{stream.key}", "acme/room42", "acme/room42"),
        ("x-{stream.name}-{stream.name}", "a/b", "x-b-b"),
        ("fixed", "a/b", "fixed"),
        ("{stream.key}", "a/{stream.name}", "a/{stream.name}"),
        ("{stream.name}", "acme/", None),
    ],
)
def test_templates_are_filled_in_once(template: str, key: str, stream: str | None) -> None:
    assert stream_of(template, key) == stream


def test_domains_and_application_may_be_templates_too() -> None:
    template = TargetTemplate("hw", "app-{stream.name}", "s", "{stream.name}.push.example")

    found = Routes([Route((template,))]).resolve("a/b", None)
    assert found == (Target("hw", "app-b", "s", "b.push.example"),)


@given(st.text(min_size=1))
def test_whatever_the_key_no_target_has_an_empty_stream_name(key: str) -> None:
    assert stream_of("{stream.name}", key) == (key.rpartition("/")[2] or None)
    assert stream_of("{stream.key}", key) == key
