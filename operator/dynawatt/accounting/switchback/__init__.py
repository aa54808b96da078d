"""Measures what the knob Clock saves: it is off for short periods drawn at random, and both kinds are compared."""
