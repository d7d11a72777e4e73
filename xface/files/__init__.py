"""Files: paths that users name, safe names, whole-or-absent writing, and what lies in a file."""
