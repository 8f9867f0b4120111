"""One warm process a device, and who gets which picture.

SwarmUI splits a batch into equal shares, so a slow card holds up a fast one; accelerate's split is
static as well, and the slowest rank gates. Here every picture has a home device, the n-th prompt
the n-th card, and a device that runs dry takes what waits for another, unless a faster one will
have finished it before (`dispatcher`). Nobody in the field hands a failed picture to another card;
here it goes there with its attempt noted, and a device that keeps failing is set aside (`faults`).
"""
