"""What draws with nothing else installed: the portrait model, its words, and illustrated avatars.

Imports neither torch nor diffusers; the portrait model is run by the diffusion room.
"""
