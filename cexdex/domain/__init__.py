"""Order books, ladders, rates, fees, thresholds: plain values and functions, no I/O and no clock."""
