"""Have we answered this before? Never across tenants."""
