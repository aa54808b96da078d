"""The operator's own Prometheus metrics: what it decided, why, and what that saves."""
