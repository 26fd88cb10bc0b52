"""The policy: which model answers a request, what stands in when it cannot, and what is remembered."""
