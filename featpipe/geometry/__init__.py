"""Integer geometry of windows on one axis: no arrays of pixels, no files, no scheduler."""
