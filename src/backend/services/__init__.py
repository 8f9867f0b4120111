"""What the studio does; the only rooms that combine others."""
