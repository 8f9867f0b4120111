"""The database: engine, sessions and the one migration history."""
