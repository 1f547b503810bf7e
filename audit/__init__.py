"""The decision record: what is kept of a review, with secrets masked."""
