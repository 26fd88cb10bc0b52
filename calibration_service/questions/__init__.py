"""What could be argued about in a question: judged by rules, or by a language model held to it."""
