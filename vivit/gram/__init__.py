"""The Gram matrix ``K = V^T V``: what it costs, how it is formed, and its spectrum."""
