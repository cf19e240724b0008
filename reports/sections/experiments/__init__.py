"""Sections about published experiments, one file each, named as the experiment."""
