"""SQL, one file per question. Read by name through the store; never imported as code."""
