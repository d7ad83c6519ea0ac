"""Logins: one at a time, kept, renewed in time, replaced at once, and not tried without a pause."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from worker.core.outcome import Outcome, Refused, Unknown, Unreachable
from worker.runtime.logins import AGAIN_AFTER, Login
from worker.vendors import load_spec
from worker.vendors.base import Account, LoggedIn, Request, Response, Vendor
from worker.vendors.memory import Memory
from worker.words import Millis

SECRET = "sEkrItVaLuE"
HOUR: Millis = 3_600_000


class Hands:
    """A clock set by hand."""

    at: Millis = 1_000_000

    def now(self) -> Millis:
        return self.at

    def monotonic(self) -> float:
        return self.at / 1000


class Office:
    """A vendor that gives one adapter after the other, and the wire to it."""

    def __init__(self) -> None:
        self.clock = Hands()
        self.asked = 0
        self.open = asyncio.Event()
        self.open.set()
        self.answer: Response | Outcome = Response(201, {}, b"")
        self.raises: Exception | None = None
        self.told: list[LoggedIn | Outcome] = []
        self.login = Login("acc", self.vendor, self.put, self.told.append, self.clock)

    @property
    def vendor(self) -> "Desk":
        return Desk(self)

    async def put(self, request: Request) -> Response | Outcome:
        assert request.url == "https://iam.example/"
        self.asked += 1
        await self.open.wait()
        if self.raises:
            raise self.raises
        return self.answer


class Desk:
    """What the office asks and reads."""

    def __init__(self, office: Office) -> None:
        self.office = office

    def login(self, _now: Millis) -> Request | None:
        return Request("POST", "https://iam.example/", {}, SECRET.encode())

    def logged_in(self, response: Response, now: Millis) -> LoggedIn | Outcome:
        if response.status != 201:
            return Refused("auth", detail="not this one")
        vendor = Memory(load_spec("memory"), Account("acc", "memory", {}))
        return LoggedIn(vendor, now + HOUR, now + 2 * HOUR)

    def logged_out(self, _response: Response) -> bool:
        return False


def live(play: Callable[[Office], Awaitable[None]]) -> None:
    async def run() -> None:
        office = Office()
        await play(office)
        await office.login.close()

    asyncio.run(run())


async def admitted(office: Office) -> Vendor:
    found = await office.login.admitted()
    assert isinstance(found, LoggedIn)
    return found.vendor


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_many_calls_wait_for_one_login() -> None:
    async def play(office: Office) -> None:
        office.open.clear()
        calls = [asyncio.create_task(admitted(office)) for _ in range(50)]
        await settled()
        assert office.asked == 1
        office.open.set()
        assert len(set(map(id, await asyncio.gather(*calls)))) == 1
        assert office.asked == 1

    live(play)


def test_it_is_kept_until_it_is_time_and_renewed_while_calls_go_on() -> None:
    async def play(office: Office) -> None:
        first = await admitted(office)
        office.clock.at += HOUR - 1
        assert await admitted(office) is first
        assert office.asked == 1
        office.clock.at += 1
        office.open.clear()
        assert await admitted(office) is first, "nobody waits for the renewal"
        assert await admitted(office) is first
        await settled()
        assert office.asked == 2
        office.open.set()
        await settled()
        assert await admitted(office) is not first

    live(play)


def test_a_renewal_that_fails_is_tried_again_after_a_pause_and_the_old_one_serves() -> None:
    async def play(office: Office) -> None:
        first = await admitted(office)
        office.answer = Response(500, {}, b"")
        office.clock.at += HOUR
        for _ in range(3):
            assert await admitted(office) is first
            await settled()
        assert office.asked == 2
        office.clock.at += AGAIN_AFTER
        office.answer = Response(201, {}, b"")
        assert await admitted(office) is first
        await settled()
        assert await admitted(office) is not first

    live(play)


def test_what_has_ended_is_not_used() -> None:
    async def play(office: Office) -> None:
        first = await admitted(office)
        office.clock.at += 2 * HOUR
        assert await admitted(office) is not first

    live(play)


def test_what_the_vendor_no_longer_takes_is_replaced_once() -> None:
    async def play(office: Office) -> None:
        first = await admitted(office)
        office.login.lost(first)
        await settled()
        assert office.asked == 2, "at once, without a call that waits"
        second = await admitted(office)
        assert second is not first
        office.login.lost(first)
        await settled()
        assert await admitted(office) is second
        assert office.asked == 2

    live(play)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Response(401, {}, b""), Refused("auth", detail="not this one")),
        (Unknown(detail="no answer in time"), Unreachable(detail="no answer in time")),
        (Unreachable(detail="refused"), Unreachable(detail="refused")),
    ],
)
def test_a_login_that_failed_is_the_answer_for_a_while(answer: Response | Outcome, expected: Outcome) -> None:
    """No login is a call that may have happened; and no vendor is asked again and again."""

    async def play(office: Office) -> None:
        office.answer = answer
        for _ in range(20):
            assert await office.login.admitted() == expected
        assert office.asked == 1
        assert office.told == [expected]
        office.clock.at += AGAIN_AFTER
        office.answer = Response(201, {}, b"")
        await admitted(office)
        assert isinstance(office.told[-1], LoggedIn)

    live(play)


def test_an_adapters_mistake_is_logged_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    async def play(office: Office) -> None:
        office.raises = RuntimeError(SECRET)
        assert isinstance(await office.login.admitted(), Unreachable)
        await settled()

    with caplog.at_level(logging.DEBUG):
        live(play)
    assert "a login failed" in caplog.text
    assert SECRET not in caplog.text + repr([vars(record) for record in caplog.records])


def test_a_call_that_is_given_up_while_it_waits_was_not_sent() -> None:
    async def play(office: Office) -> None:
        office.open.clear()
        waiting = asyncio.create_task(office.login.admitted())
        await settled()
        waiting.cancel()
        assert isinstance(await waiting, Unreachable)
        other = asyncio.create_task(office.login.admitted())
        await settled()
        assert office.asked == 1, "the login itself goes on"
        office.open.set()
        assert isinstance(await other, LoggedIn)

    live(play)


def test_a_login_under_way_ends_with_the_caller() -> None:
    async def play(office: Office) -> None:
        office.open.clear()
        waiting = asyncio.create_task(office.login.admitted())
        await settled()
        await office.login.close()
        assert isinstance(await waiting, Unreachable)

    live(play)
