"""Policy and routes follow the configuration file while the worker runs.

The file's content is looked at every ``EVERY_S`` seconds, and at once when asked (SIGHUP). Kubernetes
replaces a mounted file by swapping a link, which no watch on the file itself would notice. The whole file
is read and checked as at the start: what is wrong with it leaves everything as it is, and is said once.
Everything but policy and routes is fixed until a restart.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import fields
from hashlib import sha256
from pathlib import Path
from queue import Empty, SimpleQueue

from worker.core.routes import Routes
from worker.runtime.messages import PolicyChanged
from worker.settings import Settings, load
from worker.settings_file import ConfigError

log = logging.getLogger(__name__)

EVERY_S = 2.0


class Reload:
    """Watches one file. ``put`` takes the engine's message; ``count`` is told ``ok`` or ``refused``."""

    def __init__(
        self,
        path: str,
        settings: Settings,
        put: Callable[[PolicyChanged], None],
        count: Callable[[str], None],
    ) -> None:
        self._path, self._running, self._put, self._count = path, settings, put, count
        self._policy, self._routes = settings.policy, settings.routes
        self._seen = ""  # so that the first look compares with what was read at the start
        self._asked: SimpleQueue[bool] = SimpleQueue()  # a signal handler may put into it
        self._thread = threading.Thread(target=self._run, name="reload", daemon=True)

    def start(self) -> None:
        """Start watching."""
        self._thread.start()

    def look_now(self) -> None:
        """Ask for a look at once. For signal handlers too."""
        self._asked.put(True)

    def stop(self, timeout_s: float) -> None:
        """End the thread."""
        self._asked.put(False)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            try:
                if not self._asked.get(timeout=EVERY_S):
                    return
            except Empty:
                pass
            try:
                self.look()
            except Exception as error:  # noqa: BLE001 - a later look may succeed
                # The type only: the text of an unforeseen error could show what was read.
                log.error("looking at the configuration file failed (%s)", type(error).__name__)  # noqa: TRY400 - see above

    def look(self) -> None:
        """Read the file again if its content has changed."""
        try:
            digest = sha256(Path(self._path).read_bytes()).hexdigest()
        except OSError as error:
            digest = f"cannot be read ({error.strerror})"
        if digest == self._seen:
            return
        self._seen = digest
        try:
            found = load(self._path)
            self._refuse_unknown_accounts(found)
        except ConfigError as error:
            self._count("refused")
            log.error(  # noqa: TRY400 - the problems say it all
                "the configuration file has changed and is refused; policy %s stays in force: %s",
                self._policy.version,
                "; ".join(error.problems),
            )
            return
        self._take(found)

    def _refuse_unknown_accounts(self, found: Settings) -> None:
        accounts = {target.account for route in found.routes for target in route.targets}
        unknown = sorted(accounts - set(self._running.accounts))
        if unknown:
            raise ConfigError(
                [f"routes: {', '.join(unknown)} is no account of the running worker: restart it"]
            )

    def _take(self, found: Settings) -> None:
        others = [
            one.name
            for one in fields(Settings)
            if one.name not in ("policy", "routes")
            and getattr(found, one.name) != getattr(self._running, one.name)
        ]
        if others:
            log.warning(
                "the configuration file has changed: %s will count after a restart", ", ".join(others)
            )
        if (found.policy, found.routes) == (self._policy, self._routes):
            return
        self._policy, self._routes = found.policy, found.routes
        self._put(PolicyChanged(found.policy, Routes(found.routes)))
        self._count("ok")
        log.info("policy %s is in force from now on", found.policy.version)
