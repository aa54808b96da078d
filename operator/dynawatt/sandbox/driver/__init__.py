"""A simulated NVIDIA driver: our own libnvidia-ml.so.1, whose GPUs live in a file that tests and sandbox control."""
