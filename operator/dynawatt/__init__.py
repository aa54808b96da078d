"""dynawatt runs vLLM on Kubernetes for the fewest joules that still meet the latency objectives."""

__version__ = "0.1.0"
