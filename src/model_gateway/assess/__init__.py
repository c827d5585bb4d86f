"""How hard is a query? Pure: the same query, the same score."""
