"""Measurements: contenders on the same broker and messages, interleaved, medians and CPU beside wall time."""
