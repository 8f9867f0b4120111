"""Every query, one class a table. A repository works in the session it is given."""
