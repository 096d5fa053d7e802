"""The child process of EmbeddedKafka: librdkafka's mock cluster, through its C interface.

The wheel's own setting `test.mock.num.brokers` makes the same cluster, but gives no way to choose partitions
or to cut the three seconds that every first member of a group waits.
"""

import ctypes
import json
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import confluent_kafka

BROKERS = 1
PRODUCER = 0  # RD_KAFKA_PRODUCER in rdkafka.h
ERROR_TEXT_BYTES = 512  # what librdkafka's own examples give to an error text
REPLICAS = 1

# The mock's own is 3,000. Members that come within this time get their partitions in one go; at a start they
# do.
JOIN_DELAY_MS = 100


class MockCluster:
    """One mock Kafka broker on loopback inside this process, until the process ends.

    `topics` are name -> partitions; others appear with four when first used. Raises OSError when it cannot be
    made.
    """

    def __init__(self, topics: Mapping[str, int]) -> None:
        self._library = _library()
        self._client = _client(self._library)
        self._cluster = self._library.rd_kafka_mock_cluster_new(self._client, BROKERS)
        if not self._cluster:
            msg = "librdkafka could not make its mock cluster"
            raise OSError(msg)
        self._library.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, JOIN_DELAY_MS)
        for name, partitions in topics.items():
            code = self._library.rd_kafka_mock_topic_create(
                self._cluster, name.encode(), partitions, REPLICAS
            )
            if code != 0:
                msg = f"the mock cluster refused topic {name!r} with {partitions} partitions: {_text(code)}"
                raise OSError(msg)

    @property
    def bootstrap(self) -> str:
        """`127.0.0.1:port`."""
        address: bytes = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster)
        return address.decode()


def _text(code: int) -> str:
    return str(confluent_kafka.KafkaError(code))


def _library() -> ctypes.CDLL:
    """The library that confluent_kafka has loaded, with the types of the functions used here."""
    library = ctypes.CDLL(_library_path())
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    signatures = {
        "rd_kafka_new": (pointer, [number, pointer, text, ctypes.c_size_t]),
        "rd_kafka_mock_cluster_new": (pointer, [pointer, number]),
        "rd_kafka_mock_cluster_bootstraps": (text, [pointer]),
        "rd_kafka_mock_topic_create": (number, [pointer, text, number, number]),
        "rd_kafka_mock_group_initial_rebalance_delay_ms": (None, [pointer, ctypes.c_int32]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def _library_path() -> str:
    """Where this process has librdkafka mapped: the wheel gives the file a name of its own."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        path = line.rpartition(" ")[2]
        if "librdkafka" in path:
            return path
    msg = f"confluent-kafka {confluent_kafka.version()[0]} carries no librdkafka of its own"
    raise OSError(msg)


def _client(library: ctypes.CDLL) -> int:
    """A client with default settings, which the cluster needs for its threads and log."""
    error = ctypes.create_string_buffer(ERROR_TEXT_BYTES)
    client: int | None = library.rd_kafka_new(PRODUCER, None, error, ERROR_TEXT_BYTES)
    if not client:
        raise OSError(error.value.decode())
    return client


def main(address: Path, topics: Mapping[str, int]) -> None:
    """Be the broker: write where it listens into `address`, all at once, and stay until a signal ends it."""
    cluster = MockCluster(topics)
    draft = address.with_suffix(".new")
    draft.write_text(cluster.bootstrap)
    draft.replace(address)
    signal.pause()


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
