"""The control plane: health and metrics for operators. Never on a request's path."""
