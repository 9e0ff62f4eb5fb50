# The old way to hand a password on: fetch it, give it to the database's own command.
NEW_PASSWORD=$(curl -s http://127.0.0.1:8081/secret/postgres_password \
    -H "X-Jarvis-Client: admin" | jq -r '.value')
printf '%s' "$NEW_PASSWORD"
