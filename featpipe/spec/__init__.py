"""The pipeline file: what a user may wish for, checked and frozen."""
