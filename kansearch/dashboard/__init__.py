"""Optuna's dashboard over our studies: guarded, and with what a reviewer of networks misses there."""
