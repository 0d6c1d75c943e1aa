"""Methods for one machine, beside their peers."""
