"""Ways to get a short-lived token: one file each. Nothing is stored, nothing is logged."""
