"""The published method, written anew from its description, to measure this package against."""
