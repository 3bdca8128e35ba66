"""How sure each branch, join and end of a trace is, fitted on images with gold trees."""
