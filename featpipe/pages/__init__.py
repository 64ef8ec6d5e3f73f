"""Pages to read: HTML that needs nothing but itself."""
