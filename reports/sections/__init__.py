"""What a reader sees under one heading: a question, and what was measured to answer it."""
