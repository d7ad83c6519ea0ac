"""Which partition a key belongs to, bit for bit as the upstream's client library computes it."""

from functools import lru_cache
from struct import unpack_from
from typing import Literal
from zlib import crc32

Partitioner = Literal["murmur2", "crc32", "fnv1a"]

_WORD = 0xFFFF_FFFF
_SIGN = 0x8000_0000


@lru_cache(maxsize=16_384)
def home_partition(key: bytes, partitions: int, partitioner: Partitioner) -> int:
    """Return the partition, from 0 to ``partitions`` - 1, that a client gives a record with this key.

    ``murmur2``: Java's default and kafka-python's. ``crc32``: librdkafka's ``consistent`` (and, but for
    empty keys, its default ``consistent_random``). ``fnv1a``: Sarama's hash partitioner, librdkafka's
    ``fnv1a``. Cached: a live stream is asked about again and again.
    """
    match partitioner:
        case "murmur2":
            return (murmur2(key) & ~_SIGN) % partitions
        case "crc32":
            return crc32(key) % partitions
        case "fnv1a":
            # Sarama reads the hash as a signed number and drops the sign of the remainder.
            unsigned = fnv1a(key)
            return (unsigned if unsigned < _SIGN else _WORD + 1 - unsigned) % partitions


def murmur2(data: bytes) -> int:
    """Return MurmurHash2 (32 bit, unsigned) with the seed Kafka's clients use."""
    mix = 0x5BD1_E995
    length = len(data)
    words = length // 4
    state = 0x9747_B28C ^ length
    for word in unpack_from(f"<{words}I", data):
        stirred = word * mix & _WORD
        stirred = (stirred ^ stirred >> 24) * mix & _WORD
        state = state * mix & _WORD ^ stirred
    if length % 4:
        state = (state ^ int.from_bytes(data[words * 4 :], "little")) * mix & _WORD
    state = (state ^ state >> 13) * mix & _WORD
    return state ^ state >> 15


def fnv1a(data: bytes) -> int:
    """Return FNV-1a (32 bit, unsigned)."""
    state = 0x811C_9DC5
    for byte in data:
        state = (state ^ byte) * 0x0100_0193 & _WORD
    return state
