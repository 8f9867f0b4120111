"""Tables and the schemas that speak for them."""
