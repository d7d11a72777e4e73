"""What the pages of reports share: the document around them, its style, drawings and tables."""
