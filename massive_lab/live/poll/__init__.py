"""REST in place of a lost socket."""
