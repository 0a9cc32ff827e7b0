"""The command ``massive-lab``: thin shells over the library; nothing is imported before a subcommand needs it."""
