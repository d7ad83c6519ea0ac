"""What the media tests share: a stage with a real broker, worker, gate and server."""

import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Self

import pytest
import yaml
from kafka import KafkaProducer

from tests.e2e.playing import verdict
from tests.kafka.apache import Broker, free_port
from tests.kafka.member import read, wait_for
from tests.media.server import Nginx
from worker.runtime import topics
from worker.sandbox.worker_process import WorkerProcess
from worker.settings import load

RULES = [
    {"name": "nudity", "when": {"category": "nudity"}, "then": {"action": "forbid", "for": "1h"}},
    {"name": "spam", "when": {"category": "spam"}, "then": {"action": "cut"}},
]


class Theatre:
    """A media server, and a gate and a worker that follow one Kafka."""

    def __init__(self, folder: Path, broker: Broker, **server: Any) -> None:
        self._folder, self._broker = folder, broker
        self._name = uuid.uuid4().hex[:8]
        self._gate_port = free_port()
        self._stack = ExitStack()
        self.server = Nginx(folder / "nginx", f"http://127.0.0.1:{self._gate_port}/edge", **server)
        self.config = folder / "config.yaml"
        self.config.write_text(yaml.safe_dump(self._settings()), "utf-8")

    def _settings(self) -> Mapping[str, Any]:
        words = {"verdicts": "v", "results": "r", "state": "s", "dead_letters": "d", "control": "c"}
        return {
            "kafka": {
                "bootstrap_servers": [self._broker.plain],
                "group_id": self._name,
                "instance_id": "a",
                "topic_defaults": {"partitions": 2, "replication": 1},
                "topics": {word: f"{self._name}.{short}" for word, short in words.items()},
            },
            "ops": {"host": "127.0.0.1", "port": 0},
            "gate": {"host": "127.0.0.1", "port": self._gate_port, "fail": "closed"},
            "accounts": {"edge": self.server.account()},
            "routes": [
                {
                    "match": {"key": "acme/*"},
                    "targets": [{"account": "edge", "app": "live", "stream": "{stream.name}"}],
                }
            ],
            "policy": {"version": "1", "verify": {"after": ["1s", "3s", "5s"]}, "rules": RULES},
        }

    def __enter__(self) -> Self:
        self.kafka = load(str(self.config)).kafka
        topics.create(self.kafka)
        with self._stack:
            self._stack.enter_context(self.server)
            self.gate = self._stack.enter_context(self._process("gate"))
            self.worker = self._stack.enter_context(self._process("run"))
            for process in (self.gate, self.worker):
                wait_for(partial(self._ready, process), what="it is ready")
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        with self._stack:
            for process in (self.worker, self.gate):
                process.terminate()
                assert process.wait(30) == 0, process.log_text()[-2000:]
                assert "room" not in process.log_text(), "a stream's name in the log"

    @staticmethod
    def _ready(process: WorkerProcess) -> bool:
        return process.get("/readyz")[0] == 200

    def _process(self, command: str) -> WorkerProcess:
        return WorkerProcess(self.config, self._folder / f"{command}.log", command=command)

    def send(self, event: Mapping[str, Any]) -> None:
        """Publish a verdict or a command."""
        producer = KafkaProducer(bootstrap_servers=self._broker.plain)
        key = event["stream"]["key"].encode()
        producer.send(self.kafka.topics.verdicts, key=key, value=json.dumps(event).encode()).get(30)
        producer.close()

    def verdict(self, name: str, stream: str, category: str = "nudity") -> None:
        self.send(verdict(name, f"acme/{stream}", category))

    def told(self, name: str) -> list[dict[str, Any]]:
        """Return the results of a verdict or command, in their order."""
        results = [json.loads(record.value) for record in read(self.kafka, self.kafka.topics.results)]
        return [result for result in results if name in (result["verdict_id"], result["command_id"])]

    def over(self, name: str) -> list[dict[str, Any]]:
        """Wait for the terminal result; return all there are."""
        wait_for(lambda: any(result["terminal"] for result in self.told(name)), what=f"{name} is over")
        return self.told(name)


@pytest.fixture
def theatre(broker: Broker, tmp_path: Path) -> Iterator[Callable[..., Theatre]]:
    """Open a theatre; it takes the keyword arguments of Nginx."""
    with ExitStack() as stack:
        yield lambda **server: stack.enter_context(Theatre(tmp_path, broker, **server))
