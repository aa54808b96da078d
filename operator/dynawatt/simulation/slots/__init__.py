"""The fleet simulator slot by slot: what replicas do is read off surfaces, so that a week takes seconds."""
