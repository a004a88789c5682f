"""Placeholder until the owner writes this module."""
