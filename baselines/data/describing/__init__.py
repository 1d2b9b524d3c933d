"""Description of data sets: sizes, long tail, repeats, times, splits and texts."""
