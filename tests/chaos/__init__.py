"""Seeded faults against the real product under load, and a checker that accounts for every record afterwards."""
