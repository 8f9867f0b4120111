"""HTTP: routes, their documents, and the edge where errors become answers."""
