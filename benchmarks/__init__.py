"""featpipe beside its peers: ``python -m benchmarks`` runs the same works with each and compares their times."""
