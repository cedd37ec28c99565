"""TrialSpecs to RungResults: one loop for one trial or for many."""
