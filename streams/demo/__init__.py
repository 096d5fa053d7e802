"""The demo: a git history replayed through the whole pipeline, and what came of it."""
