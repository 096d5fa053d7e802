"""How a decision moves: Kafka, the model process, the database and the command line."""
