"""What Explore shows of the chosen samples: one module for each way to look at them."""
