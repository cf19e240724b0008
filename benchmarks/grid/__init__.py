"""What is measured: suites, profiles, targets, and the selection that a command asks for."""
