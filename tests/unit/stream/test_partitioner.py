"""The partition of a key is the one that every other Kafka client chooses."""

import random

from aiokafka.partitioner import murmur2 as reference

from stream.files.produce import Sender
from stream.kafka.partitioner import murmur2, partition_of


def test_the_hash_is_that_of_the_clients():
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    for length in range(200):
        data = rng.randbytes(length)
        assert murmur2(data) == reference(data)


def test_partitions_are_in_range_and_stable():
    assert {partition_of(f"series{i}".encode(), 7) for i in range(200)} == set(range(7))
    assert murmur2(b"21") - 2**32 == -973932308  # the example of Kafka's own tests
    assert partition_of(b"21", 1000) == (-973932308 & 0x7FFFFFFF) % 1000


def test_series_go_where_the_others_with_their_labels_go_when_asked_to():
    sender = Sender(None, "telemetry", 64, "json", ["service", "zone"])
    shop = {sender._key(f'{metric}{{service="shop",zone="a"}}') for metric in ("cpu", "mem")}
    assert shop == {b'{service="shop",zone="a"}'}
    alone = 'cpu{service="shop"}'
    assert sender._key(alone) == alone.encode()
    assert Sender(None, "telemetry", 64, "json")._key(alone) == alone.encode()
