"""A store's features in the file formats of other programs."""
