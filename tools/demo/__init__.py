"""Two tiny demo models, and what trains and evaluates them."""
