"""What is computed on: networks, data sets, and the user's own."""
