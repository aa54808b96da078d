"""A real Kubernetes control plane on this machine, with simulated GPU nodes and vLLM pods."""
