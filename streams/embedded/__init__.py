"""Kafka and PostgreSQL that need no installation, started as children of the process that uses them."""

from pointsman.streams.embedded.kafka import EmbeddedKafka
from pointsman.streams.embedded.postgres import EmbeddedPostgres
from pointsman.streams.embedded.process import EmbeddedServerError

__all__ = ["EmbeddedKafka", "EmbeddedPostgres", "EmbeddedServerError"]
