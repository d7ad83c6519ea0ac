"""A process that consumes and kills itself: python -m tests.kafka.crash BROKER GROUP NAME DELIVERY MOMENT."""

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, cast

from kafka import KafkaConsumer, KafkaProducer

from tests.kafka.member import Member, settings_for, topics_named

MOMENTS: dict[str, tuple[Any, str, bool]] = {  # where: before or after which call
    "before_offsets": (KafkaProducer, "send_offsets_to_transaction", True),
    "before_commit": (KafkaProducer, "commit_transaction", True),
    "after_commit": (KafkaProducer, "commit_transaction", False),
    "offset_commit": (KafkaConsumer, "commit", True),
}


def die_at(moment: str) -> None:
    owner, name, before = MOMENTS[moment]
    call: Callable[..., Any] = getattr(owner, name)

    def deadly(*arguments: Any, **named: Any) -> None:
        if not before:
            call(*arguments, **named)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, name, deadly)


def main(server: str, group: str, name: str, delivery: str, moment: str) -> None:
    die_at(moment)
    settings = replace(settings_for([server]), group_id=group, topics=topics_named(name))
    Member(settings, delivery=cast("Literal['exactly_once', 'at_least_once']", delivery))
    time.sleep(60)


if __name__ == "__main__":
    main(*sys.argv[1:])
