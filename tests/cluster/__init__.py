"""Tests on a real SLURM: a cluster of three nodes that lives in one folder of this machine."""
