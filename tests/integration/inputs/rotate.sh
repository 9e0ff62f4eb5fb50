# The old way to rotate: no Accept header, one name.
curl -s -X POST http://127.0.0.1:8081/rotate \
  -H "X-Jarvis-Client: admin" \
  -H "Content-Type: application/json" \
  -d '{"names":["jwt_signing_key"]}'
