"""What is compared. Each is a program of its own: `python -m benchmarks.contenders.NAME JSON`, one line of JSON out."""
