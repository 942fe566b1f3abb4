"""Servers with one bug each, planted to see whether the conformance checker catches it and names it."""
