"""Everything that a GPU has to be asked, in one command and a few minutes: ``benchmarks/gpu.sh``."""
