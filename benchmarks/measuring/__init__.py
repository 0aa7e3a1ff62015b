"""What the benchmarks of simulation and training share."""
