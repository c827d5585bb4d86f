"""TLS of the doors and the control plane."""
