"""What a request costs, and the ledger of what it did cost. Never blocks a request."""
