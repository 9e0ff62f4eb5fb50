#!/bin/bash
# Moves the values of ../.env into the daemon and makes new ones, by plain curl, as the old setup does.
set -euo pipefail

SECRETS_URL="http://127.0.0.1:8081"
source ../.env

create_secret() {
    curl -s -X POST "$SECRETS_URL/secret" \
        -H "X-Jarvis-Client: admin" \
        -H "Content-Type: application/json" \
        -d "{\"name\":\"$1\",\"value\":\"$2\"}" || exit 1
    echo " created: $1"
}

generate_secret() {
    local value
    case "$2" in
        jwt_signing_key) value=$(openssl rand -base64 32) ;;
        password) value=$(openssl rand -base64 48 | tr -d '/+=' | head -c 64) ;;
        *) value=$(openssl rand -base64 32) ;;
    esac
    create_secret "$1" "$value"
}

create_secret home_assistant_token "$HOME_ASSISTANT_TOKEN"
create_secret home_assistant_url "$HOME_ASSISTANT_URL"
create_secret brave_api_key "$BRAVE_API_KEY"
create_secret tavily_api_key "$TAVILY_API_KEY"
generate_secret jwt_signing_key jwt_signing_key
generate_secret postgres_password password
generate_secret jarvis_encryption_key jwt_signing_key
[[ -n "${DUCKDUCKGO_API_KEY:-}" ]] && create_secret duckduckgo_api_key "$DUCKDUCKGO_API_KEY"
[[ -n "${BROWSERBASE_API_KEY:-}" ]] && create_secret browserbase_api_key "$BROWSERBASE_API_KEY"

curl -s "$SECRETS_URL/secrets" -H "X-Jarvis-Client: admin" | jq '.secrets | length'
