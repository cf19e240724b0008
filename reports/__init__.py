"""Turns the records of measurements into one HTML page, CSV tables and figures."""
