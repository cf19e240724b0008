"""Networks that are trained: recipes, data, and a loop that goes on where it was killed."""
