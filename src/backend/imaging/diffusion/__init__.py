"""The torch room: the only one that imports torch, and only inside a worker."""
