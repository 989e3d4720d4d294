"""Configuration: typed, immutable, and checked as a whole (contract section 1)."""
