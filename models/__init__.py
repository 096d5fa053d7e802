"""How a decision is made. Pure: imports schemas only, knows neither Kafka nor the database."""
