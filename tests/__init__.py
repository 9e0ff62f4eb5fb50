"""The project's tests: unit/ mirrors the code, integration/ runs real processes, support/ is what they share."""
