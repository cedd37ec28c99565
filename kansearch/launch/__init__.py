"""How workers are started: a launcher knows a command line and never imports the worker."""
