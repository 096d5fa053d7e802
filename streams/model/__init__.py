"""The model in a process of its own: frames, server, client with a deadline, circuit breaker."""
