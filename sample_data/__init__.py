"""Samples in foreign formats, made by our own generator, and the profile library."""
