"""Damaged inputs for tools/fuzz_inputs.py, and surveys of them."""
