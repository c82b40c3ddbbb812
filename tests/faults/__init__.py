"""One test a fault: what must come of it when a cluster, a disk or a user does its worst."""
