"""The Kafka Streams contender: documentation-keeper's rules in Java, built from here into the cache."""
