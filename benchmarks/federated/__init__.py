"""Methods for many clients, beside their peers."""
