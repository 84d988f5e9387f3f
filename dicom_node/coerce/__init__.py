"""Coercion and de-identification of what is forwarded: profiles, applied to data sets. Pure."""
