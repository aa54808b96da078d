"""NVIDIA GPUs through NVML; ``node.open_gpus`` is the way in. Nothing outside this package knows of pynvml."""
