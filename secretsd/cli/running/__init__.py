"""What `secretsctl run` is made of: which secrets go where, their files, the child, and the loop around them."""
