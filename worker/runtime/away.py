"""What became of calls whose partition is away: it may come back to this process, and ask."""

from worker.core import stream
from worker.core.outcome import Unreachable
from worker.runtime.messages import Answered, Granted

KEPT_ANSWERS = 4_000
"""Of each partition that is away. A call whose answer is not kept is one that may have happened."""
NEVER_SENT = Unreachable(detail="It was never sent.")


class AnswersKept:
    """Answers by partition and call."""

    def __init__(self) -> None:
        self._kept: dict[int, dict[str, stream.Answered]] = {}

    def keep(self, partition: int, answer: stream.Answered) -> None:
        """Remember an answer, if there is room."""
        kept = self._kept.setdefault(partition, {})
        if len(kept) < KEPT_ANSWERS:
            kept[answer.call] = answer

    def keep_unsent(self, granted: Granted, lost: int) -> None:
        """Remember of a request's calls for a lost partition that they were never sent."""
        for call, (partition, _, _, target) in zip(granted.calls, granted.origins, strict=True):
            if partition == lost:
                self.keep(partition, unsent(target, call.id))

    def put_back(self, partition: int, answers: dict[str, stream.Answered]) -> None:
        """Remember what a partition had not taken up when it went away again."""
        self._kept[partition] = answers

    def take(self, partition: int) -> dict[str, stream.Answered]:
        """Give a partition that has come back its answers."""
        return self._kept.pop(partition, {})


def never_sent(granted: Granted) -> Answered:
    """Return the answer to a request that is not sent after all."""
    return Answered(granted, (NEVER_SENT,) * len(granted.calls), None, 0)


def unsent(target: str, call: str) -> stream.Answered:
    """Return the answer of a call that never left."""
    return stream.Answered(target, call, NEVER_SENT, None, 0)
