"""Reading that does not fail for a moment's trouble: errors told apart, tries repeated, reads made whole."""
