"""The command line: thin commands that parse, make one library call and emit."""
