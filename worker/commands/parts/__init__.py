"""What the commands are made of: each part gives data or text, and prints nothing."""
