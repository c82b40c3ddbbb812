"""Backbones, heads, tasks and optimizers: what is trained, not where its data comes from."""
