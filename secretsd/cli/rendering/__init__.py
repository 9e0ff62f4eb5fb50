"""What `secretsctl template` is made of: the template, its file, the commands around it, and the loop."""
