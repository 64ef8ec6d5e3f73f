"""The feature stack on disk: plain zarr version 3."""
