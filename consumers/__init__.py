"""Out: ring to result. Jitted kernels and the loop that drives them, fan-out, recorder, history."""
