"""One attempt at one provider: adapter, endpoint, connection. Never chooses a provider."""
