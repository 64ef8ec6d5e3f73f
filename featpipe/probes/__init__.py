"""How much a linear classifier reads from a feature stack, without the stack ever being in memory."""
