"""Keyed state in Kafka: what agents remember, kept in a compacted changelog."""
