"""What is said to those who only listen."""
