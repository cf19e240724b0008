"""Names and numbers as people read them."""
