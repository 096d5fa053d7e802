"""The model in an operating-system process of its own: frames, server, client with a deadline, circuit breaker."""
