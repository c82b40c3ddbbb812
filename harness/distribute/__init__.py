"""Topology and distribution: who computes, and how results meet."""
