"""Two versions of the library, in turns, and what their ratios say."""
