"""What both processes read and write, one module per subject. Every function takes a session first and leaves the commit to its owner."""
