"""The policy: which model answers, what stands in when it cannot, what is remembered."""
