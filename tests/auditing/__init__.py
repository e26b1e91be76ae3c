"""What the audit and the verdict say of books, whoever asks."""
