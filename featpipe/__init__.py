"""featpipe: batch feature extraction on image datasets."""

__version__ = "0.1.0"
