"""The local page that shows what filters and pools do to an image."""
