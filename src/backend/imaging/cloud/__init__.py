"""Images from elsewhere, behind the same small protocol as the device pool."""
