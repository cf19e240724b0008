"""The pages: what is on them, and how they are written."""
