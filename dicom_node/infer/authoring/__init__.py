"""Engines in the making: what is known of a model becomes a folder that an author completes."""
