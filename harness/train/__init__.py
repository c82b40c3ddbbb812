"""Phases, steps and the loop that carries them out."""
