"""Between encoding and delivery: what breaks a rule is never sent."""
