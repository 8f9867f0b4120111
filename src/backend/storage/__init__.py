"""Blobs by their SHA-256, and the home folder that everything lives in."""
