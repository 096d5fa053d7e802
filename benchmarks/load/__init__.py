"""Load for measurements: offered on a schedule, seen by a `read_committed` consumer, from outside of what is measured."""
