"""Images in: listing a collection, decoding its files, reading blocks of it."""
