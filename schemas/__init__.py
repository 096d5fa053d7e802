"""What a message may say. No I/O; imports nothing of ours."""
