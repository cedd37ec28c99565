"""From a space to trials worth training: samplers, limits, pruning decisions, one trial."""
