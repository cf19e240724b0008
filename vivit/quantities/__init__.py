"""What follows from the curvature: leading eigenpairs, directional derivatives, Newton steps."""
