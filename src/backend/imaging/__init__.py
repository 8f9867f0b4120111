"""Pixels: what makes images. Knows no persona, no table and no route."""
