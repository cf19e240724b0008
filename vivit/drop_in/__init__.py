"""The interface of vivit-for-pytorch 1.0.0, inside of BackPACK's backward pass.

BackPACK is needed here and nowhere else, so nothing of the rest imports this when it is imported.
"""
