"""A changed copy of a value is what dataclasses would make of it."""

import dataclasses

import pytest

from worker.words import Quota, Session, replace


def test_a_changed_copy_is_as_in_dataclasses() -> None:
    before = Session("s", 5)
    after = replace(before, id="t")
    assert after == dataclasses.replace(before, id="t") == Session("t", 5)
    assert before == Session("s", 5), "the one it was made of stays as it is"
    assert replace(before) == before


def test_a_field_that_there_is_not_is_refused() -> None:
    with pytest.raises(AttributeError):
        replace(Quota(1, 2), limits=3)  # type: ignore[call-arg]  # what is to be refused
