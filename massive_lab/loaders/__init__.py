"""REST use cases: each loader asks, follows pages and gives back one schema-exact frame."""
