"""Backpropagation drivers: the only place that touches autograd graphs and hooks."""
