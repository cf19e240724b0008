"""The benchmark harness: measures GGN methods against each other and stores tidy records."""
