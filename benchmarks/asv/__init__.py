"""Classes of asv: the library of each commit on the grid, measured by today's harness."""
