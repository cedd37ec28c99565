"""A named set, a formula or a table in a file, as encoded tensors and splits."""
