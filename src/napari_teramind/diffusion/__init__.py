"""Noise schedule, samplers and noise fields, as short functions in the papers' notation."""
