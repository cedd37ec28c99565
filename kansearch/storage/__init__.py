"""Studies and trials in SQL, through Optuna's tables."""
