"""What a person or a client program opens: the HTTP API and the pages."""
