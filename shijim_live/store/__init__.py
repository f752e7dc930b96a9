"""Tables over the archive. Not part of recording: the recorder does not know a database exists."""
