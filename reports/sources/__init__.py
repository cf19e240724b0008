"""What was measured: records, asv's and pytest-benchmark's results, published figures."""
