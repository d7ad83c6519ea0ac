"""An account that logs in, at the simulator: one token for all its calls, renewed and replaced."""

import queue
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry

from tests.sandbox.signing import PUSH, Clock
from worker.core.outcome import Done, Observed, Outcome, Refused, Unreachable
from worker.runtime.caller import Caller
from worker.runtime.messages import Answered, Granted
from worker.runtime.metrics import Metrics
from worker.sandbox.simulators import HuaweiSimulator
from worker.settings import AccountSettings
from worker.vendors import load_spec, make
from worker.vendors.base import Account
from worker.words import Call, Millis, Purpose, Target

pytestmark = pytest.mark.sandbox

HOUR: Millis = 3_600_000
SPEC = load_spec("huawei")


class Worker:
    """A caller with one account at a simulator; both have the same clock."""

    def __init__(self, huawei: HuaweiSimulator, clock: Clock, password: str = "sandbox-password") -> None:
        settings = {
            "project_id": "sandbox-project",
            "iam.user": "sandbox-user",
            "iam.password": password,
            "iam.domain": "sandbox-domain",
            "iam.endpoint": huawei.url,
        }
        account = Account("hw", "huawei", settings, huawei.url)
        self.clock = clock
        self.inbox: queue.SimpleQueue[Answered] = queue.SimpleQueue()
        self.caller = Caller(
            {"hw": (make(SPEC, account), AccountSettings(account, {}, allow_insecure=True))},
            self.inbox.put,
            lambda *_: True,
            self,
            Metrics(CollectorRegistry(), {"hw": SPEC}),
        )
        self.caller.start()

    def now(self) -> Millis:
        return self.clock.now

    def monotonic(self) -> float:
        return self.clock.now / 1000

    def ask(self, operation: str = "list_blocks", times: int = 1) -> list[Outcome]:
        purpose: Purpose = SPEC.operations[operation].serves[0]
        for number in range(times):
            target = Target("hw", "live", f"room{number}", PUSH)
            call = Call("c", purpose, operation, target, until=self.clock.now + HOUR)
            self.caller.send(Granted("hw", (call,), ((0, 1, "k", "t"),)))
        return [outcome for _ in range(times) for outcome in self.inbox.get(timeout=10).outcomes]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def huawei(clock: Clock) -> Iterator[HuaweiSimulator]:
    with HuaweiSimulator(clock=clock) as simulator:
        yield simulator


@pytest.fixture
def worker(huawei: HuaweiSimulator, clock: Clock) -> Iterator[Worker]:
    made = Worker(huawei, clock)
    yield made
    made.caller.stop(0)


def logins(huawei: HuaweiSimulator) -> int:
    return huawei.stats()["calls"].get("login", 0)  # type: ignore[no-any-return]  # the statistics are JSON


def test_every_operation_is_carried_out_with_one_token(worker: Worker, huawei: HuaweiSimulator) -> None:
    for operation in ("block_once", "block", "update_block", "list_blocks", "list_online", "unblock"):
        outcomes = worker.ask(operation, times=20)
        assert all(isinstance(outcome, Done | Observed) for outcome in outcomes), operation
    assert logins(huawei) == 1
    assert huawei.stats()["signatures_refused"] == 0


def test_a_token_is_renewed_before_its_24_hours_are_over(
    worker: Worker, huawei: HuaweiSimulator, clock: Clock
) -> None:
    for _ in range(100):
        (outcome,) = worker.ask()
        assert isinstance(outcome, Observed)
        clock.now += HOUR
    assert 4 <= logins(huawei) <= 6
    assert huawei.stats()["signatures_refused"] == 0, "none was ever too old"


def test_a_token_that_was_revoked_is_replaced_at_once(
    worker: Worker, huawei: HuaweiSimulator, clock: Clock
) -> None:
    worker.ask()
    clock.now += HOUR
    huawei.revoke_tokens()
    outcomes = worker.ask(times=10)
    assert any(isinstance(outcome, Unreachable) for outcome in outcomes), "not done, and to be done again"
    assert all(isinstance(outcome, Unreachable | Observed) for outcome in outcomes)
    assert all(isinstance(outcome, Observed) for outcome in worker.ask(times=10))
    assert logins(huawei) == 2


def test_a_wrong_password_is_a_refused_login_that_is_not_tried_again_and_again(
    huawei: HuaweiSimulator, clock: Clock
) -> None:
    worker = Worker(huawei, clock, password="wrong")
    try:
        for outcome in worker.ask(times=20):
            assert isinstance(outcome, Refused)
            assert outcome.error == "auth"
        assert logins(huawei) == 1
        assert set(huawei.stats()["calls"]) == {"login"}
    finally:
        worker.caller.stop(0)


def test_iam_that_is_away_leaves_calls_to_be_tried_again(
    worker: Worker, huawei: HuaweiSimulator, clock: Clock
) -> None:
    huawei.play_script([{"operation": "login", "effect": "status", "status": 503, "first": 1}])
    assert all(isinstance(outcome, Unreachable) for outcome in worker.ask(times=5))
    clock.now += 5_000
    assert all(isinstance(outcome, Observed) for outcome in worker.ask(times=5))
    assert logins(huawei) == 2
