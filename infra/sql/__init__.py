"""The migrations, as SQL, in order of their names."""
