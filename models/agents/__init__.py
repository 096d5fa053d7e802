"""The agents that ship with Pointsman, one folder each."""
