"""The logins that some accounts' calls need first: made once, kept, renewed in time.

One login of an account is under way at most, whoever waits for it; what it gives serves all its calls.
Before it ends it is renewed while calls go on with it. One that the vendor no longer takes is replaced at
once. After a login that failed none is tried for a while, so that a vendor does not lock the user out.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from worker.core.outcome import Outcome, Unknown, Unreachable
from worker.runtime.clock import Clock
from worker.runtime.logs import frames
from worker.vendors.base import LoggedIn, LogsIn, Request, Response, Vendor
from worker.vendors.reading import seen_by_the_clock
from worker.words import Millis

log = logging.getLogger(__name__)

AGAIN_AFTER: Millis = 5_000
"""How long a login that failed answers for the calls that need it."""

Put = Callable[[Request], Awaitable[Response | Outcome]]
"""Makes one exchange; an Outcome is why there is no answer."""


class Login:
    """The login of one account. Used on the caller's thread only.

    ``told`` gets what became of each, for the books: a LoggedIn or the outcome.
    """

    def __init__(
        self,
        account: str,
        vendor: LogsIn,
        put: Put,
        told: Callable[[LoggedIn | Outcome], None],
        clock: Clock,
    ) -> None:
        self._account, self._vendor, self._put, self._told = account, vendor, put, told
        self._clock = clock
        self._has: LoggedIn | None = None
        self._failed: tuple[Outcome, Millis] | None = None  # why, and until when that is the answer
        self._under_way: asyncio.Task[LoggedIn | Outcome] | None = None

    async def admitted(self) -> LoggedIn | Outcome:
        """Return what the account's calls are made with, after a login where one is needed."""
        now = self._clock.now()
        if self._has is not None and now < self._has.until:
            if now >= self._has.renew_at and not self._waits(now):
                self._begin()
            return self._has
        if self._failed is not None and self._waits(now):
            return self._failed[0]
        try:
            return await asyncio.shield(self._begin())
        except asyncio.CancelledError:
            return Unreachable(detail="not sent: the worker is shutting down")

    def lost(self, vendor: Vendor) -> None:
        """Replace what the vendor no longer takes, unless that was done already."""
        if self._has is not None and self._has.vendor is vendor:
            self._has = None
            self._begin()

    async def close(self) -> None:
        """Give up a login that is under way."""
        if self._under_way is not None:
            self._under_way.cancel()
            await asyncio.gather(self._under_way, return_exceptions=True)

    def _waits(self, now: Millis) -> bool:
        return self._failed is not None and now < self._failed[1]

    def _begin(self) -> "asyncio.Task[LoggedIn | Outcome]":
        if self._under_way is None:
            self._under_way = asyncio.get_running_loop().create_task(self._log_in())
        return self._under_way

    async def _log_in(self) -> LoggedIn | Outcome:
        try:
            found = await self._ask()
        except Exception as error:  # noqa: BLE001 - the calls that wait need an answer
            about = {"account": self._account, "error": type(error).__name__, "at": frames(error)}
            log.error("a login failed", extra=about)  # noqa: TRY400 - its text may hold a secret
            found = Unreachable(detail="the login failed")
        finally:
            self._under_way = None
        self._told(found)
        if isinstance(found, LoggedIn):
            self._has, self._failed = found, None
        else:
            self._failed = found, self._clock.now() + AGAIN_AFTER
            log.warning("no login: %s", found.detail, extra={"account": self._account})
        return found

    async def _ask(self) -> LoggedIn | Outcome:
        request = self._vendor.login(self._clock.now())
        if request is None:
            return Unreachable(detail="the account has nothing to log in with")
        answer = await self._put(request)
        if not isinstance(answer, Response):
            return answer if not isinstance(answer, Unknown) else Unreachable(answer.wire, answer.detail)
        now = self._clock.now()
        found = self._vendor.logged_in(answer, now)
        return found if isinstance(found, LoggedIn) else seen_by_the_clock(found, answer, now)
