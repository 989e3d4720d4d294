"""The parts of the reference that are made from relayx's own types when Sphinx runs.

Only :mod:`reference` imports Sphinx; the others return reStructuredText, which the tests look at.
"""
