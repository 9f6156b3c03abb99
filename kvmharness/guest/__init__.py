"""Guest programs: their header contract, the assembler, the loader and the run loop."""
