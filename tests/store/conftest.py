"""What the tests of the quota store share: one server, and replicas on a clock that is set by hand."""

from collections.abc import Iterator

import pytest

from tests.store.server import RedisServer


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as running:
        yield running
