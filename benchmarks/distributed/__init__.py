"""Data-parallel training: what a step and a sum over ranks cost, measured here, and on clusters."""
