"""Gator: a self-hosted studio for AI personas."""
