"""Our partitioners give what the clients give."""

import ctypes
import importlib.util
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.partitioner.default import murmur2 as kafka_python_murmur2

from worker.events.partition import Partitioner, fnv1a, home_partition, murmur2


@pytest.mark.parametrize(
    ("data", "signed"),  # Apache Kafka's own test of Utils.murmur2
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_as_in_java(data: bytes, signed: int) -> None:
    assert murmur2(data) == signed % 2**32


@given(st.binary(max_size=70))
def test_murmur2_as_in_kafka_python(data: bytes) -> None:
    assert murmur2(data) == kafka_python_murmur2(data)
    assert home_partition(data, 12, "murmur2") == (kafka_python_murmur2(data) & 0x7FFFFFFF) % 12


@pytest.mark.parametrize(
    ("data", "hashed"),  # the published vectors of FNV-1a
    [(b"", 0x811C9DC5), (b"a", 0xE40C292C), (b"foobar", 0xBF9CF968)],
)
def test_fnv1a_as_published(data: bytes, hashed: int) -> None:
    assert fnv1a(data) == hashed


@pytest.mark.parametrize(
    ("key", "partitioner", "expected"),  # worked out from the definitions, 100 partitions
    [
        (b"123456789", "crc32", 0xCBF43926 % 100),  # the check value of CRC-32
        (b"", "crc32", 0),
        (b"foobar", "fnv1a", (2**32 - 0xBF9CF968) % 100),  # negative as a signed number
        (b"", "fnv1a", (2**32 - 0x811C9DC5) % 100),
        (b"foobar", "murmur2", (-790332482 & 0x7FFFFFFF) % 100),
    ],
)
def test_partitions_from_hashes(key: bytes, partitioner: Partitioner, expected: int) -> None:
    assert home_partition(key, 100, partitioner) == expected


def librdkafka() -> ctypes.CDLL:
    """The library inside confluent-kafka's wheel; its partitioners are public functions."""
    import confluent_kafka  # noqa: PLC0415 - in the sandbox extra only; loads what the library needs

    spec = importlib.util.find_spec(confluent_kafka.__name__)
    assert spec is not None
    assert spec.origin is not None
    (path,) = (Path(spec.origin).parent.parent / "confluent_kafka.libs").glob("librdkafka*.so*")
    return ctypes.CDLL(str(path))


KEYS = [b"", b"a", b"acme/room42", "直播/房间-42".encode(), "Зал№7".encode(), b"\xff\x80" * 5, b"x" * 300]


@pytest.mark.sandbox
@pytest.mark.parametrize(
    ("partitioner", "function"), [("murmur2", "murmur2"), ("crc32", "consistent"), ("fnv1a", "fnv1a")]
)
def test_partitions_as_librdkafka_gives_them(partitioner: Partitioner, function: str) -> None:
    theirs = getattr(librdkafka(), f"rd_kafka_msg_partitioner_{function}")
    theirs.restype = ctypes.c_int32
    chance = random.Random(7)
    for key in [*KEYS, *(chance.randbytes(length) for length in range(1, 200))]:
        for partitions in (1, 2, 7, 12, 1000):
            expected = theirs(None, key, ctypes.c_size_t(len(key)), ctypes.c_int32(partitions), None, None)
            assert home_partition(key, partitions, partitioner) == expected
