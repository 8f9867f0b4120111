"""A picture's bytes: its container, its pixels, and both made anew."""
