"""What a simulated vendor knows: its domains, the encoders that publish, and the bans in force."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from worker.words import Millis

Key = tuple[str, str, str]
"""(push domain, app, stream)."""


@dataclass(slots=True)
class Encoder:
    """One publisher. Live since ``started_at``; else it tries again at ``tries_at`` (None: it gave up).

    ``reconnects_after`` is how long it waits after each cut or refusal; None: it gives up at once.
    """

    reconnects_after: Millis | None
    started_at: Millis | None
    tries_at: Millis | None
    cuts: int = 0


class World:
    """Streams and bans of one simulator; nothing happens between two looks, so each look settles first.

    ``domains`` maps push domains to their play domains.
    """

    def __init__(self, domains: Mapping[str, str]) -> None:
        self.push_to_play = dict(domains)
        self.play_to_push = {play: push for push, play in domains.items()}
        self._encoders: dict[Key, Encoder] = {}
        self._bans: dict[Key, Millis] = {}
        self.cuts = 0

    def push_domain(self, domain: str) -> str | None:
        """Return the push domain of a push or play domain; None if it is neither."""
        return domain if domain in self.push_to_play else self.play_to_push.get(domain)

    def publish(self, key: Key, started_at: Millis, reconnects_after: Millis | None, now: Millis) -> bool:
        """Start an encoder; return whether it is live now (a ban keeps it out)."""
        cuts = self._encoders[key].cuts if key in self._encoders else 0
        self._encoders[key] = Encoder(reconnects_after, None, started_at, cuts)
        return self.live_since(key, now) is not None

    def unpublish(self, key: Key) -> bool:
        """Take an encoder away; return whether there was one."""
        return self._encoders.pop(key, None) is not None

    def live_since(self, key: Key, now: Millis) -> Millis | None:
        """Return when the running broadcast began; None if the stream is not live."""
        encoder = self._encoders.get(key)
        if encoder is None:
            return None
        self._settle(key, encoder, now)
        return encoder.started_at

    def cut(self, key: Key, now: Millis) -> bool:
        """End the running broadcast; return whether there was one."""
        if self.live_since(key, now) is None:
            return False
        encoder = self._encoders[key]
        encoder.started_at = None
        encoder.tries_at = None if encoder.reconnects_after is None else now + encoder.reconnects_after
        encoder.cuts += 1
        self.cuts += 1
        return True

    def ban(self, key: Key, until: Millis, now: Millis) -> bool:
        """Refuse a stream until a moment, and cut it; return whether that changed anything."""
        cut = self.cut(key, now)
        changed = self._bans.get(key) != until
        self._bans[key] = until
        self._try_soon(key, now)
        return cut or changed

    def lift(self, key: Key, now: Millis) -> bool:
        """End a ban; return whether one was in force."""
        if self.banned_until(key, now) is None:
            return False
        self.live_since(key, now)
        del self._bans[key]
        self._try_soon(key, now)
        return True

    def banned_until(self, key: Key, now: Millis) -> Millis | None:
        """Return when the ban in force ends; None if there is none. Bans lapse by themselves."""
        until = self._bans.get(key)
        if until is not None and until <= now:
            self.live_since(key, now)  # what became of the encoder while the ban was in force
            del self._bans[key]
            return None
        return until

    def bans(self, now: Millis) -> dict[Key, Millis]:
        """Return the bans in force and their ends, oldest first."""
        found = ((key, self.banned_until(key, now)) for key in list(self._bans))
        return {key: until for key, until in found if until is not None}

    def bans_full(self, limit: int, now: Millis) -> bool:
        """Return whether there are that many bans in force."""
        return len(self._bans) >= limit and len(self.bans(now)) >= limit

    def live(self, now: Millis) -> dict[Key, Millis]:
        """Return the live streams and since when, oldest first."""
        found = ((key, self.live_since(key, now)) for key in self._encoders)
        return {key: since for key, since in found if since is not None}

    def state(self, now: Millis) -> dict[str, Any]:
        """Return everything, as JSON."""
        live = self.live(now)
        return {
            "live": [
                {"domain": key[0], "app": key[1], "stream": key[2], "started_at": since}
                for key, since in live.items()
            ],
            "bans": [
                {"domain": key[0], "app": key[1], "stream": key[2], "until": until}
                for key, until in self.bans(now).items()
            ],
            "cuts": [
                {"domain": key[0], "app": key[1], "stream": key[2], "cuts": encoder.cuts}
                for key, encoder in self._encoders.items()
                if encoder.cuts
            ],
        }

    def _try_soon(self, key: Key, now: Millis) -> None:
        """Forget tries that were put off to the end of another ban."""
        encoder = self._encoders.get(key)
        if encoder and encoder.tries_at is not None and encoder.reconnects_after is not None:
            encoder.tries_at = min(encoder.tries_at, now + encoder.reconnects_after)

    def _settle(self, key: Key, encoder: Encoder, now: Millis) -> None:
        """Let an encoder make the tries that were due until now."""
        tries_at, ban = encoder.tries_at, self._bans.get(key)
        if tries_at is None or tries_at > now:
            return
        if ban is not None and ban > tries_at:
            if encoder.reconnects_after is None:
                encoder.tries_at = None
                return
            period = max(1, encoder.reconnects_after)
            tries_at += -(-(ban - tries_at) // period) * period
        encoder.tries_at = tries_at
        if tries_at <= now:
            encoder.started_at, encoder.tries_at = tries_at, None
