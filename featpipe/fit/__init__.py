"""Banks learned from patches of the images, before a run."""
