"""The pages in a browser: a Streamlit program that is a client of the HTTP API."""
