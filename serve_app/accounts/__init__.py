"""What clients with named keys use: limits on it, and accounts of it."""
