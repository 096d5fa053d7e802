"""Fuzzing: every place where bytes from outside become values, what must hold there, and inputs worth keeping."""
