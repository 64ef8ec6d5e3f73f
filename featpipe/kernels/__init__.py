"""Filter banks and the arithmetic on maps: arrays in, arrays out, nothing else."""
