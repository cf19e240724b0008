"""Figures: one style, one colour for each method, and what several sections draw."""
