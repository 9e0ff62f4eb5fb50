"""A client as services from before this daemon have it: requests, one header, the value of the answer."""

import os
from functools import lru_cache

import requests


class SecretsClient:
    def __init__(self) -> None:
        self.base_url = os.getenv("JARVIS_SECRETS_URL", "http://127.0.0.1:8081")
        self.client_id = os.getenv("JARVIS_CLIENT_ID", "python-services")

    @lru_cache(maxsize=128)  # noqa: B019  # as the old one has it
    def get_secret(self, name: str) -> str:
        response = requests.get(
            f"{self.base_url}/secret/{name}", headers={"X-Jarvis-Client": self.client_id}, timeout=5
        )
        response.raise_for_status()
        value: str = response.json()["value"]
        return value


if __name__ == "__main__":
    client = SecretsClient()
    print(client.get_secret("brave_api_key"))  # noqa: T201
    try:
        client.get_secret("home_assistant_url")
    except requests.HTTPError as error:
        print(error.response.status_code)  # noqa: T201
