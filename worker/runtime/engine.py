"""The one loop: records, answers and timers -> step -> journal -> calls.

The engine's thread is the only owner of stream states. Everything else talks to it through its inbox,
and it talks back with batches for the journal and, once a batch is committed, with requests for the
caller. While a batch is being committed the next one gathers.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from queue import Empty, SimpleQueue
from random import Random
from typing import Any, assert_never

from worker.core import stream
from worker.core.context import Context
from worker.core.control import Control
from worker.events.codec import encode_result
from worker.events.result import Result
from worker.runtime.accounts import SENT_WITHIN, Accounts
from worker.runtime.away import AnswersKept, never_sent, unsent
from worker.runtime.backlog import Backlog
from worker.runtime.clock import Clock
from worker.runtime.intake import Intake
from worker.runtime.messages import (
    Answered,
    Batch,
    Committed,
    Controlled,
    Dropped,
    Granted,
    Log,
    Message,
    PartitionBatch,
    PolicyChanged,
    Polled,
    Record,
    Reset,
    Restored,
)
from worker.runtime.metrics import Metrics
from worker.runtime.obey import concerned, kept_back
from worker.runtime.partition import Partition, oldest_pending
from worker.runtime.topics import partitions_moved
from worker.runtime.wakes import Wakes
from worker.settings import KafkaSettings
from worker.words import Call, Millis

log = logging.getLogger(__name__)

BATCH_STEPS = 1_000
"""Larger transactions gain nothing and delay what they hold."""
WAKES_AT_ONCE = 500
"""Steps that a batch has room for beside those, so that time goes on whatever there is to read."""
LONGEST_WAIT = 0.5
"""How long the loop may rest, in seconds; turning shows that it lives."""


class Engine:
    """The loop and what it owns. Other threads only put messages into its inbox."""

    def __init__(
        self,
        inbox: SimpleQueue[Message],
        settings: KafkaSettings,
        ctx: Context,
        accounts: Accounts,
        log_of: Log,
        send: Callable[[Granted], None],
        observe: Callable[[Sequence[Result]], None],
        fatal: Callable[[str], None],
        metrics: Metrics,
        clock: Clock,
        random: Random,
    ) -> None:
        self._settings = settings
        # Then no offset comes twice; those of a topic made anew begin below what states remember.
        self._transactional = settings.delivery == "exactly_once"
        accounts.guards.change(ctx.policy.guards)
        self.ctx = replace(ctx, guards=accounts.guards, capacities=accounts.capacities)
        self._accounts, self._log = accounts, log_of
        self._send, self._observe, self._fatal = send, observe, fatal
        self._clock, self._random, self._inbox = clock, random, inbox
        self.partitions: dict[int, Partition] = {}
        self._batch = Batch()
        self._steps = 0
        self._gather_until: float | None = None
        self._submitted = False
        self._going: list[Granted] = []  # once what was submitted is committed
        self._backlog = Backlog(log_of.set_back_pressure)
        self._wakes = Wakes()
        self._intake = Intake(settings, metrics, log_of.stop_partition)
        self._kept = AnswersKept()
        self._obeys = False  # before it knows what operators have decided, nothing is begun
        self._draining = False
        self._results = settings.topics.results
        self._source = f"urn:moderation-worker:{settings.group_id}"
        self.turned_at, self.overdue = clock.monotonic(), 0

    # -- the loop --------------------------------------------------------------------------------------

    def run(self, stop: Callable[[], bool]) -> None:
        """Turn until ``stop`` says so; it is asked at least twice a second."""
        while not stop():
            self._turn(self._rest())

    def drain(self, deadline: float) -> None:
        """Take no more records, wait for the calls under way, make their answers durable.

        ``deadline`` is a moment of the monotonic clock. What is not done by then is taken up after the
        next start.
        """
        self._draining = True
        self._backlog.close()
        while self._clock.monotonic() < deadline:
            self._turn(0.05)
            if not (self._submitted or self._batch.partitions or self._accounts.under_way()):
                return

    def idle(self) -> bool:
        """Whether all input is read and no event waits for a terminal result (parked ones aside)."""
        if not self._obeys or self._submitted or self._batch.partitions or self._backlog or self._taking_up():
            return False
        # In this order: what is read to its end lies in the inbox, if it is not here.
        if not self._log.caught_up() or not self._inbox.empty():
            return False
        return oldest_pending(self.partitions) is None and len(self.partitions) == len(self._log.owned())

    def _rest(self) -> float:
        """Return for how long there is nothing to do but listen, in seconds."""
        if self._steps >= BATCH_STEPS and self._submitted:
            return LONGEST_WAIT  # only the journal's answer makes room
        if (self._backlog or self._taking_up()) and self._steps < BATCH_STEPS:
            return 0
        now = self._clock.now()
        at = min(self._wakes.next_at(), self._accounts.next_at(now))
        wait = min(LONGEST_WAIT, max(0.0, (at - now) / 1000))
        if self._gather_until is not None and not self._submitted:
            wait = min(wait, max(0.0, self._gather_until - self._clock.monotonic()))
        return wait

    def _turn(self, wait: float) -> None:
        try:
            message = self._inbox.get(timeout=wait) if wait > 0 else self._inbox.get_nowait()
            while True:
                self._hear(message)
                message = self._inbox.get_nowait()
        except Empty:
            pass
        if self._obeys and not self._draining:
            self._take_up_some()
            self._work_off()
            self._wake()
            self._grant()
        self._submit()
        self.turned_at = self._clock.monotonic()

    def _hear(self, message: Message) -> None:
        match message:
            case Polled():
                if not self._draining:
                    self._backlog.push(message)
            case Answered():
                self._answered(message)
            case Committed():
                self._committed(message)
            case Restored():
                self._restored(message)
            case Dropped():
                self._drop(message.partition)
            case Reset():
                self._reset(message.reason)
            case PolicyChanged():
                self._accounts.guards.change(message.policy.guards)
                self.ctx = replace(self.ctx, policy=message.policy, routes=message.routes)
            case Controlled():
                self._obey(message.control)
            case _:
                assert_never(message)

    # -- records ---------------------------------------------------------------------------------------

    def _work_off(self) -> None:
        while self._steps < BATCH_STEPS and (polled := self._backlog.pop()) is not None:
            part = self.partitions.get(polled.partition)
            if part is None or part.epoch != polled.epoch:
                continue
            for record in polled.records:
                if part.number in self._log.stopped():
                    break  # what is left is read again once it goes on
                self._record(part, record)

    def _record(self, part: Partition, record: Any) -> None:
        now = self._clock.now()
        part.next_offset = record.offset + 1
        found = self._intake.read(part, record, self._log.partitions, now)
        if isinstance(found, Record):
            self._part(part).records.append(found)
            self._steps += 1
        elif self._transactional or record.offset > part.state(found.stream_key).offset:
            place = f"{part.number}@{record.offset}"
            self._accounts.guards.saw(part.number, found.event, now)
            received = stream.Received(found.event, place, found.traceparent, record.offset)
            self._step(part, found.stream_key, received, now)
        else:
            self._part(part)  # it was applied before: only its offset is left to commit

    # -- steps -----------------------------------------------------------------------------------------

    def _step(self, part: Partition, key: str, event: stream.Event, now: Millis) -> stream.Step:
        if key in part.to_take_up:
            self._take_up(part, key, now)
        state = part.state(key)
        step = stream.step(state, event, now, self.ctx)
        self._accounts.capacities.change(part.take(key, step), step.places)
        batch = self._part(part)
        self._steps += 1
        for number in self._accounts.guards.count(part.number, step.placed):
            batch.leans[number] = self.partitions[number].epoch
        for result in step.results:
            batch.records.append(encode_result(result, self._results, self._source, part.number))
        batch.results += step.results
        targets = step.state.targets if step.state is not None else state.targets
        for name, need in step.needs.items():
            self._accounts.want(part.number, key, targets, name, need)
        self._wakes.plan(part, key, step)
        return step

    def _part(self, part: Partition) -> PartitionBatch:
        batch = self._batch.partitions.get(part.number)
        if batch is None:
            batch = PartitionBatch(part.number, part.epoch, part.next_offset)
            self._batch.partitions[part.number] = batch
            if self._gather_until is None:
                self._gather_until = self._clock.monotonic() + self._settings.gather / 1000
        batch.next_offset = part.next_offset
        return batch

    def _wake(self) -> None:
        now = self._clock.now()
        self.overdue = max(0, now - self._wakes.next_at())
        for _ in range(WAKES_AT_ONCE):
            room = self._steps < BATCH_STEPS + WAKES_AT_ONCE
            due = self._wakes.pop(now, self.partitions) if room else None
            if due is None:
                return
            self._step(*due, stream.Woke(), now)

    # -- calls -----------------------------------------------------------------------------------------

    def _grant(self) -> None:
        """Grant what may go, however full the batch is: the accounts' concurrency bounds it."""
        if self._taking_up():
            return  # what is most urgent may be still to come
        now = self._clock.now()
        for account, grant in self._accounts.take(now):
            calls: list[Call] = []
            origins: list[tuple[int, int, str, str]] = []
            for want in grant.wants:
                part = self.partitions[want.partition]
                call = self._step(part, want.stream, stream.Grant(want.target, want.operation), now).call
                if call is not None:
                    calls.append(call)
                    origins.append((part.number, part.epoch, want.stream, want.target))
            charged = tuple((number, self.partitions[number].epoch) for number in grant.use.partitions())
            granted = Granted(account, tuple(calls), tuple(origins), charged, now + SENT_WITHIN)
            if self._accounts.granted(granted, grant):
                self._batch.granted.append(granted)

    def _committed(self, message: Committed) -> None:
        self._submitted = False
        for part in message.batch.partitions.values():
            self._observe(part.results)
        going, self._going = self._going, []
        for granted in going:
            if kept_back(granted, self.partitions, self.ctx.control, self._clock.now()):
                self._answered(never_sent(granted))
            else:
                self._send(granted)

    def _obey(self, control: Control) -> None:
        before, self.ctx, self._obeys = self.ctx.control, replace(self.ctx, control=control), True
        for part, key in concerned(before, control, self.partitions, self._accounts):
            self._wakes.soon(part, key, self._clock.now())

    def _answered(self, message: Answered) -> None:
        now = self._clock.now()
        before, stopped = self.ctx.stopped, self._accounts.answered(message, now)
        if stopped != before:
            self.ctx = replace(self.ctx, stopped=stopped)
        granted = message.granted
        for call, origin, outcome in zip(granted.calls, granted.origins, message.outcomes, strict=True):
            number, _, key, target = origin
            event = stream.Answered(target, call.id, outcome, message.started_at, self._random.random())
            part = self.partitions.get(number)
            if part is None:
                self._kept.keep(number, event)
            elif key in part.to_take_up:
                part.answers[call.id] = event
            else:
                self._step(part, key, event, now)
        for number, key in self._accounts.waiting_at(stopped ^ before):
            part = self.partitions.get(number)
            if part is not None:
                self._wakes.soon(part, key, now)

    # -- partitions ------------------------------------------------------------------------------------

    def _reset(self, reason: str) -> None:
        """Forget all: nothing of the failed batch may run, and every partition is restored again."""
        log.warning("the journal was reset: %s", reason)
        self._submitted = False
        for number in list(self.partitions):
            self._drop(number)

    def _restored(self, message: Restored) -> None:
        self._drop(message.partition)
        part = Partition(message.partition, message.epoch, message.next_offset)
        self.partitions[message.partition] = part
        self._wakes.load(part, part.load(message.states))
        self._accounts.restored(part, max(1, self._log.partitions), self._clock.now())
        part.answers = self._kept.take(part.number)
        if part.has_foreign(self._log.partitions, self._settings.partitioner):
            self._fatal(sentence := partitions_moved(self._settings))
            log.critical("%s", sentence)

    def _taking_up(self) -> bool:
        return any(part.to_take_up for part in self.partitions.values())

    def _take_up_some(self) -> None:
        now = self._clock.now()
        for part in self.partitions.values():
            while part.to_take_up and self._steps < BATCH_STEPS:
                self._take_up(part, part.to_take_up.popitem()[0], now)

    def _take_up(self, part: Partition, key: str, now: Millis) -> None:
        """Go on with a stream that had something open when it was left."""
        part.to_take_up.pop(key, None)
        state = part.state(key)
        for target in state.targets.values():
            answer = part.answers.pop(target.call.id, None) if target.call is not None else None
            if answer is not None:
                self._step(part, key, answer, now)
        self._step(part, key, stream.Restored(self._accounts.in_flight(state)), now)

    def _drop(self, number: int) -> None:
        part = self.partitions.pop(number, None)
        self._batch.partitions.pop(number, None)
        if part is None:
            return
        self._accounts.drop_partition(part)
        if part.to_take_up:
            self._kept.put_back(number, part.answers)
        self._going = [left for granted in self._going if (left := self._without(granted, number)).calls]
        kept = []
        for granted in self._batch.granted:
            if granted.concerns(number):
                self._accounts.never_sent(granted)
                self._take_back(granted, number)
            else:
                kept.append(granted)
        self._batch.granted = kept
        if not self._batch.partitions:
            self._steps, self._gather_until = 0, None

    def _without(self, granted: Granted, lost: int) -> Granted:
        """Return what is left of a submitted request: no lost call was sent, committed or not."""
        charged = any(number == lost for number, _ in granted.charged)
        left = granted.only(lambda number, _: number != lost and not charged)
        self._accounts.narrowed(granted, left)
        if charged:
            self._take_back(granted, lost)
        self._kept.keep_unsent(granted, lost)
        return left

    def _take_back(self, granted: Granted, lost: int) -> None:
        """Undo the grants of a request that a lost partition had a part in: they never left."""
        for call, (number, _, key, target) in zip(granted.calls, granted.origins, strict=True):
            part = self.partitions.get(number)
            if number != lost and part is not None:
                self._step(part, key, unsent(target, call.id), self._clock.now())

    # -- the journal -----------------------------------------------------------------------------------

    def _submit(self) -> None:
        if self._submitted or not self._batch.partitions:
            return
        gathering = self._gather_until is not None and self._clock.monotonic() < self._gather_until
        if gathering and self._steps < BATCH_STEPS and not self._draining:
            return
        for number in self._accounts.unwritten():
            self._part(self.partitions[number])
        batch, self._batch, self._steps, self._gather_until = self._batch, Batch(), 0, None
        for number, written in batch.partitions.items():
            written.states = self.partitions[number].seal(self._settings.topics.state)
        for number, key, value in self._accounts.own_records(batch.partitions, self._clock.now()):
            batch.partitions[number].own.append(Record(self._settings.topics.state, key, value, (), number))
        self._submitted, self._going = True, batch.granted
        self._log.submit(batch)
