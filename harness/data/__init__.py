"""Where examples come from and in which order: sources, lanes, decode, augment, pipeline."""
