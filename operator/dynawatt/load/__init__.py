"""The load generator: replays a trace against vLLM, each request at its time, and measures what clients see."""
