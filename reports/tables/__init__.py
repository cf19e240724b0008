"""Tables: what they are made of, and what several sections need."""
