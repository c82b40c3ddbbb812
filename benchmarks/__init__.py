"""What ``make bench`` runs: every row measures harness against its real peer in the same run."""
