"""What a record is, where it comes from, and the words in which it is written."""
