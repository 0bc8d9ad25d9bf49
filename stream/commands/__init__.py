"""What each command of `tocsin` does around the module that does the work: progress, printing, summing up."""
